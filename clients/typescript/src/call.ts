import type { CallAnswer, OneCallAnswer, Usage } from "./answers.js";
import type { Message } from "./options.js";
import { messageOf, ToolCall } from "./toolCalls.js";

/** The server's fields, as they are. */
export interface Call extends CallAnswer {}

/** One LLM call and what it cost. */
export class Call {
  constructor(answer: CallAnswer) {
    Object.assign(this, answer);
  }

  get text(): string {
    return this.response.content ?? "";
  }

  get toolCalls(): ToolCall[] {
    return (this.response.tool_calls ?? []).map((called) => new ToolCall(called));
  }

  get usage(): Usage {
    const { prompt_tokens, completion_tokens, tokens_used } = this.metadata;
    return { prompt_tokens, completion_tokens, total_tokens: tokens_used };
  }

  /** The answer as a message, to go on with. */
  get message(): Message {
    return messageOf(this.response.content, this.toolCalls, this.response.refusal);
  }
}

/** The server's fields, as they are. */
export interface OneCall extends OneCallAnswer {}

/** A job of one call, closed with it: `costs` is what the whole job cost. */
export class OneCall extends Call {
  constructor(answer: OneCallAnswer) {
    super(answer);
  }
}

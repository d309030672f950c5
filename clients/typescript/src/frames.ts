/** A stream's bytes as chunks, and what they add up to. Pure. */
import type { AnsweredToolCall, CallCosts, Usage } from "./answers.js";
import { StreamCut, UnexpectedAnswer } from "./errors.js";
import type { Message } from "./options.js";
import { isObject, ofEnvelope } from "./refusals.js";
import { messageOf, ToolCall } from "./toolCalls.js";

/** OpenAI's delta of a tool call. */
export interface ToolCallDelta {
  readonly index?: number;
  readonly id?: string | null;
  readonly function?: { readonly name?: string | null; readonly arguments?: string | null };
}

/** A piece of an answer. `toolCalls` are OpenAI's deltas; `index` tells choices apart. */
export interface Chunk {
  readonly text: string;
  readonly toolCalls: readonly ToolCallDelta[];
  readonly finishReason: string | null;
  readonly index: number;
}

interface Choice {
  index?: number;
  delta?: { content?: string | null; refusal?: string | null; tool_calls?: ToolCallDelta[] | null };
  finish_reason?: string | null;
}

/** What has arrived of a stream, of its first choice; `usage` and `costs` come at the end. */
export class StreamedAnswer {
  jobId: string | undefined;
  callId: string | undefined;
  finishReason: string | null = null;
  refusal: string | null = null;
  usage: Usage | undefined;
  costs: CallCosts | undefined;
  /** Whether it was read to its end. */
  isComplete = false;
  text = "";
  readonly #tools = new Map<number, AnsweredToolCall>();
  readonly #decoder = new TextDecoder();
  #rest = "";

  /** Those asked for, as far as they have arrived. */
  get toolCalls(): ToolCall[] {
    const inOrder = [...this.#tools].sort(([one], [other]) => one - other);
    return inOrder.map(([, called]) => new ToolCall(called));
  }

  /** The answer as a message, to go on with. */
  get message(): Message {
    return messageOf(this.text || null, this.toolCalls, this.refusal);
  }

  /**
   * Throws ApiError for an error among the frames. Lines end with a line feed and with nothing
   * else: a model may write any other character.
   */
  protected *take(received: Uint8Array): Generator<Chunk> {
    const lines = (this.#rest + this.#decoder.decode(received, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.startsWith("data:")) yield* this.#frame(line.slice(5).trim());
    }
  }

  /** Throws StreamCut when the bytes ended before the stream did. */
  protected end(): void {
    if (!this.isComplete) throw new StreamCut("The connection ended before the stream did.");
  }

  *#frame(written: string): Generator<Chunk> {
    if (written === "[DONE]") {
      this.isComplete = true;
      return;
    }
    const frame = parsedFrame(written);
    if (isObject(frame["error"])) throw ofEnvelope(frame["error"]);
    if (typeof frame["job_id"] === "string") this.jobId = frame["job_id"];
    if (typeof frame["call_id"] === "string") this.callId = frame["call_id"];
    if (frame["usage"]) this.usage = frame["usage"] as Usage;
    if (frame["costs"]) this.costs = frame["costs"] as CallCosts;
    for (const choice of (frame["choices"] ?? []) as Choice[]) {
      const chunk = this.#chunk(choice);
      if (chunk) yield chunk;
    }
  }

  #chunk({ index = 0, delta, finish_reason: reason = null }: Choice): Chunk | undefined {
    const text = delta?.content ?? "";
    const toolCalls = delta?.tool_calls ?? [];
    if (index === 0) {
      this.text += text;
      this.finishReason = reason ?? this.finishReason;
      if (delta?.refusal) this.refusal = (this.refusal ?? "") + delta.refusal;
      for (const piece of toolCalls) this.#addToTool(piece);
    }
    if (!text && !toolCalls.length && !reason) return undefined;
    return { text, toolCalls, finishReason: reason, index };
  }

  #addToTool({ index = 0, id, function: called }: ToolCallDelta): void {
    const begun = { id: "", type: "function", function: { name: "", arguments: "" } };
    const tool = this.#tools.get(index) ?? begun;
    tool.id = id || tool.id;
    tool.function.name = called?.name || tool.function.name;
    tool.function.arguments += called?.arguments ?? "";
    this.#tools.set(index, tool);
  }
}

function parsedFrame(written: string): Readonly<Record<string, unknown>> {
  let frame: unknown;
  try {
    frame = JSON.parse(written);
  } catch {
    frame = undefined;
  }
  if (!isObject(frame)) throw new UnexpectedAnswer("A frame of the stream is no JSON object.");
  return frame;
}

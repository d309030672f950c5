/** What a model wants done, and how it is told what came of it. */
import type { AnsweredToolCall } from "./answers.js";
import type { Message, SaidToolCall, Tool } from "./options.js";
import { jsonSchemaOf, parsed, type Schema } from "./schema.js";

/** A tool that the model wants called. */
export class ToolCall {
  readonly id: string;
  readonly name: string;
  /** As the model wrote them: JSON, or what it took for it. */
  readonly rawArguments: string;

  constructor(answered: AnsweredToolCall) {
    this.id = answered.id;
    this.name = answered.function.name;
    this.rawArguments = answered.function.arguments;
  }

  /** Throws SyntaxError for what is no JSON: models do write such a thing. */
  get arguments(): unknown {
    return JSON.parse(this.rawArguments || "{}");
  }

  /** The arguments by a schema. Throws SyntaxError, or the schema's own error. */
  parse<T>(schema: Schema<T>): T {
    return parsed(schema, this.arguments);
  }

  /** The message that tells the model what came of it. */
  result(content: string): Message {
    return { role: "tool", tool_call_id: this.id, content };
  }

  /** As it stands in a message. */
  toJSON(): SaidToolCall {
    const called = { name: this.name, arguments: this.rawArguments };
    return { id: this.id, type: "function", function: called };
  }
}

/** A tool whose arguments are the schema's. */
export function tool(
  name: string,
  schema: Schema<unknown>,
  { description, jsonSchema }: { description?: string; jsonSchema?: object } = {},
): Tool {
  const { description: own, ...parameters } = jsonSchemaOf(schema, jsonSchema);
  const said = description ?? (typeof own === "string" ? own : undefined);
  return { type: "function", function: { name, parameters, ...(said ? { description: said } : {}) } };
}

/** An assistant's message, for the next call's message list. */
export function messageOf(
  content: string | null, toolCalls: readonly ToolCall[], refusal: string | null,
): Message {
  return {
    role: "assistant",
    content,
    ...(toolCalls.length ? { tool_calls: toolCalls.map((called) => called.toJSON()) } : {}),
    ...(refusal ? { refusal } : {}),
  };
}

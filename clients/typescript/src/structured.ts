/** From a model's words to an object, asking again for what does not fit. */
import type { Call } from "./call.js";
import { NotStructured } from "./errors.js";
import { asyncDispose } from "./disposal.js";
import type { CallFields, Message, Messages, StructuredOptions } from "./options.js";
import { bare, partial } from "./partial.js";
import { listed } from "./requests.js";
import { jsonSchemaOf, judge, type Schema, type Verdict } from "./schema.js";
import type { Stream } from "./stream.js";

/** An object that is still arriving: anything may be missing, and nothing is checked. */
export type DeepPartial<T> = T extends readonly (infer Item)[]
  ? DeepPartial<Item>[]
  : T extends object
    ? { [Name in keyof T]?: DeepPartial<T[Name]> }
    : T;

/** A conversation that goes on until the answer fits, or the repairs are used up. */
export class Talk<T> {
  readonly messages: Message[];
  readonly responseFormat: NonNullable<CallFields["response_format"]>;
  readonly #schema: Schema<T>;
  #repairs: number;

  constructor(schema: Schema<T>, messages: Messages, options: StructuredOptions) {
    this.messages = listed(messages);
    this.#schema = schema;
    this.#repairs = options.repairs ?? 2;
    const name = options.schemaName ?? "answer";
    this.responseFormat = {
      type: "json_schema",
      json_schema: { name, schema: jsonSchemaOf(schema, options.jsonSchema) },
    };
  }

  /**
   * The object, or `fits: false` when `messages` now ask for a better one. Throws NotStructured.
   */
  hear(text: string, refusal: string | null): Verdict<T> {
    if (refusal) throw new NotStructured("The model refused to answer.", { text: refusal });
    const verdict = this.#judge(text);
    if (verdict.fits) return verdict;
    if (this.#repairs <= 0) {
      const { problems } = verdict;
      throw new NotStructured("No valid object, repairs included.", { text, problems });
    }
    this.#repairs -= 1;
    const wrong = verdict.problems.map((problem) => `- ${problem}`).join("\n");
    this.messages.push(
      { role: "assistant", content: text },
      {
        role: "user",
        content:
          `That does not fit the schema:\n${wrong}\n` +
          "Answer again with the corrected JSON object and nothing else.",
      },
    );
    return verdict;
  }

  #judge(text: string): Verdict<T> {
    let value: unknown;
    try {
      value = JSON.parse(bare(text));
    } catch (error) {
      return { fits: false, problems: ["the answer: it is no JSON"], error };
    }
    return judge(this.#schema, value);
  }
}

/**
 * An object while it arrives, unchecked; at the end `result()`, checked. What does not fit is asked
 * for again, by calls that are not streamed.
 */
export class StructuredStream<T> implements AsyncIterable<DeepPartial<T>> {
  readonly stream: Stream;
  readonly #talk: Talk<T>;
  readonly #again: () => Promise<Call>;
  #result: Promise<T> | undefined;

  /** @internal */
  constructor(stream: Stream, talk: Talk<T>, again: () => Promise<Call>) {
    this.stream = stream;
    this.#talk = talk;
    this.#again = again;
  }

  /** Reads the stream to its end, if that was not done. Throws NotStructured. */
  result(): Promise<T> {
    this.#result ??= this.#finish();
    return this.#result;
  }

  async close(): Promise<void> {
    await this.stream.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<DeepPartial<T>, void, undefined> {
    let seen = "";
    for await (const _ of this.stream) {
      const found = partial(this.stream.text);
      const written = JSON.stringify(found ?? {});
      if (found === undefined || written === "{}" || written === seen) continue;
      seen = written;
      yield found as DeepPartial<T>;
    }
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  async #finish(): Promise<T> {
    if (!this.stream.isComplete) for await (const _ of this.stream);
    let verdict = this.#talk.hear(this.stream.text, this.stream.refusal);
    while (!verdict.fits) {
      const better = await this.#again();
      verdict = this.#talk.hear(better.text, better.response.refusal);
    }
    return verdict.value;
  }
}

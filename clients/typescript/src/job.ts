import type { ClosedJob, JobBill, JobDetails } from "./answers.js";
import { Call } from "./call.js";
import { asyncDispose } from "./disposal.js";
import { CallsInFlight, JobClosed } from "./errors.js";
import type {
  CallOptions, CompleteOptions, FailOptions, Messages, RequestOptions, StructuredOptions,
} from "./options.js";
import * as requests from "./requests.js";
import type { Request } from "./requests.js";
import type { Schema } from "./schema.js";
import { Stream } from "./stream.js";
import { StructuredStream, Talk } from "./structured.js";
import type { Patience, Transport } from "./transport.js";

/** How long an error of the caller's may be held up by closing its job, in milliseconds. */
const LEAVING = 5000;

/** One business operation, from the first call to the bill. */
export class Job {
  readonly id: string;
  readonly #transport: Transport;
  readonly #signal: AbortSignal | undefined;
  readonly #warn: (message: string) => void;
  readonly #streams = new Set<Stream>();
  #closed: ClosedJob | undefined;
  #leaving: Promise<void> | undefined;

  /** @internal */
  constructor(
    id: string,
    transport: Transport,
    { signal, warn }: { signal?: AbortSignal | undefined; warn: (message: string) => void },
  ) {
    this.id = id;
    this.#transport = transport;
    this.#signal = signal;
    this.#warn = warn;
  }

  /** The bill, once the job was closed here. */
  get closed(): ClosedJob | undefined {
    return this.#closed;
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /**
   * Do the work, then complete the job; whoever closes it inside is left alone. A thrown error fails
   * it (the server is told the error's type, and no word of it), an abort cancels it, and both are
   * thrown on: trouble with closing never takes their place.
   */
  async run<T>(work: (job: Job) => T | Promise<T>): Promise<T> {
    const onAbort = (): void => void this.#leave(this.#signal?.reason);
    this.#signal?.addEventListener("abort", onAbort);
    try {
      let result: T;
      try {
        this.#signal?.throwIfAborted();
        result = await work(this);
        this.#signal?.throwIfAborted();
      } catch (error) {
        await this.#leave(error);
        throw error;
      }
      await this.#leaveStreams();
      if (!this.isClosed) await this.complete();
      return result;
    } finally {
      this.#signal?.removeEventListener("abort", onAbort);
      await this.#leaving;
    }
  }

  /** One LLM call. */
  async call(messages: Messages, options: CallOptions = {}): Promise<Call> {
    const { signal, timeout, idempotencyKey, ...fields } = options;
    const request = requests.call(this.id, messages, fields, idempotencyKey);
    return new Call(await this.#transport.send(request, this.#patience({ signal, timeout })));
  }

  /** One LLM call, answered in chunks. It is asked for when it is iterated. */
  stream(messages: Messages, options: CallOptions = {}): Stream {
    const { signal, timeout, idempotencyKey, ...fields } = options;
    const request = requests.stream(this.id, messages, fields, idempotencyKey);
    const patience = this.#patience({ signal, timeout });
    const made = new Stream(this.#transport, request, patience, (one) => this.#streams.delete(one));
    this.#streams.add(made);
    return made;
  }

  /**
   * A checked object. What does not fit is sent back with what is wrong, `repairs` times at most.
   * `timeout` is each call's. Throws NotStructured.
   */
  async structured<T>(
    schema: Schema<T>, messages: Messages, options: StructuredOptions = {},
  ): Promise<T> {
    const talk = new Talk(schema, messages, options);
    for (;;) {
      const answer = await this.#ask(talk, options);
      const verdict = talk.hear(answer.text, answer.response.refusal);
      if (verdict.fits) return verdict.value;
    }
  }

  /** The same, with what has arrived of the object while it arrives. */
  streamStructured<T>(
    schema: Schema<T>, messages: Messages, options: StructuredOptions = {},
  ): StructuredStream<T> {
    const talk = new Talk(schema, messages, options);
    const stream = this.stream(talk.messages, within(talk, options));
    return new StructuredStream(stream, talk, () => this.#ask(talk, options));
  }

  /** Merge into the job's metadata; the whole of it. */
  async setMetadata(
    metadata: Readonly<Record<string, unknown>>, options: RequestOptions = {},
  ): Promise<Record<string, unknown>> {
    const request = requests.setMetadata(this.id, metadata);
    return (await this.#transport.send(request, this.#patience(options))).metadata;
  }

  async show(options: RequestOptions = {}): Promise<JobDetails> {
    return this.#transport.send(requests.showJob(this.id), this.#patience(options));
  }

  async costs(options: RequestOptions = {}): Promise<JobBill> {
    return this.#transport.send(requests.showCosts(this.id), this.#patience(options));
  }

  /**
   * Close the job and settle its price. Waits for calls that still run. Throws JobClosed if it was
   * closed otherwise.
   */
  async complete(options: CompleteOptions = {}): Promise<ClosedJob> {
    return this.#close(requests.complete(this.id, options), this.#patience(options));
  }

  /** Close the job as failed; of an error only the type is told, of a string all of it. */
  async fail(error: unknown, options: FailOptions = {}): Promise<ClosedJob> {
    const why = typeof error === "string" ? error : typeOf(error);
    return this.#close(requests.fail(this.id, why, options.metadata), this.#patience(options));
  }

  /** Close the job at once; its running calls stop. */
  async cancel(reason = "", options: RequestOptions = {}): Promise<ClosedJob> {
    return this.#close(requests.cancel(this.id, reason), this.#patience(options));
  }

  /**
   * The end of `await using`, which cannot know whether an error is on its way: as with a
   * transaction, what was not completed is cancelled.
   */
  async [asyncDispose](): Promise<void> {
    await this.#leave(undefined);
  }

  /** Close what is open because of an error, or of nothing done; once, and without ever throwing. */
  #leave(error: unknown): Promise<void> {
    this.#leaving ??= this.#giveUp(error).catch((trouble: unknown) => {
      if (trouble instanceof JobClosed) return;
      this.#warn(
        `job ${this.id} could not be closed (${typeOf(trouble)});` +
          " the server will, when it was idle for long enough",
      );
    });
    return this.#leaving;
  }

  async #giveUp(error: unknown): Promise<void> {
    await this.#leaveStreams();
    if (this.isClosed) return;
    // Without the job's signal: it may be what ended the work.
    const patience = { signals: [], timeout: LEAVING };
    const why = error === undefined ? "" : typeOf(error);
    if (error === undefined || this.#signal?.aborted || why === "AbortError") {
      await this.#close(requests.cancel(this.id, why), patience);
      return;
    }
    try {
      await this.#close(requests.fail(this.id, why), patience);
    } catch (trouble) {
      if (!(trouble instanceof CallsInFlight)) throw trouble;
      // Whoever waited for them is gone.
      await this.#close(requests.cancel(this.id, why), patience);
    }
  }

  async #leaveStreams(): Promise<void> {
    await Promise.all([...this.#streams].map((stream) => stream.close()));
  }

  async #close(request: Request<ClosedJob>, patience: Patience): Promise<ClosedJob> {
    this.#closed = await this.#transport.send(request, patience);
    return this.#closed;
  }

  #ask<T>(talk: Talk<T>, options: StructuredOptions): Promise<Call> {
    return this.call(talk.messages, within(talk, options));
  }

  #patience({ signal, timeout }: RequestOptions): Patience {
    return { signals: [this.#signal, signal], timeout };
  }
}

function within<T>(talk: Talk<T>, options: StructuredOptions): CallOptions {
  const { repairs: _repairs, jsonSchema: _schema, schemaName: _name, ...call } = options;
  return { ...call, response_format: talk.responseFormat };
}

/** An error's kind. Not its words: they may hold a secret or a customer's text. */
function typeOf(error: unknown): string {
  return error instanceof Error ? error.name || "Error" : "Error";
}

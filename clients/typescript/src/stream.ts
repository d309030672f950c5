/** Answers while they arrive. */
import { asyncDispose } from "./disposal.js";
import { StreamCut } from "./errors.js";
import { StreamedAnswer, type Chunk } from "./frames.js";
import type { Request } from "./requests.js";
import type { Bytes, Patience, Transport } from "./transport.js";

/**
 * An answer's chunks, once. It is asked for when it is iterated or by `open()`, whichever is first.
 * Leaving the loop early stops the model; what it said is charged.
 */
export class Stream extends StreamedAnswer implements AsyncIterable<Chunk> {
  readonly #transport: Transport;
  readonly #request: Request<never>;
  readonly #patience: Patience;
  readonly #onClose: (stream: Stream) => void;
  readonly #stop = new AbortController();
  #opening: Promise<Bytes> | undefined;
  #isTaken = false;

  /** @internal */
  constructor(
    transport: Transport,
    request: Request<never>,
    patience: Patience,
    onClose: (stream: Stream) => void = () => undefined,
  ) {
    super();
    this.#transport = transport;
    this.#request = request;
    this.#patience = { ...patience, signals: [...patience.signals, this.#stop.signal] };
    this.#onClose = onClose;
  }

  /** Ask, if that was not done: throws the ApiError of a refusal, before the first chunk. */
  async open(): Promise<this> {
    await this.#bytes();
    return this;
  }

  /** Leave it. */
  async close(): Promise<void> {
    this.#onClose(this);
    this.#stop.abort(new StreamCut("The stream was left before its end."));
    // One that never began has nothing to close, and told whoever opened it why.
    const bytes = await this.#opening?.catch(() => undefined);
    bytes?.close();
  }

  /** Throws ApiError, StreamCut, ConnectionFailed, TimedOut, or a signal's reason. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    if (this.#isTaken) throw new TypeError("A stream can be read once; its `text` is kept.");
    this.#isTaken = true;
    try {
      const bytes = await this.#bytes();
      while (!this.isComplete) {
        const received = await bytes.next();
        if (received === undefined) break;
        yield* this.take(received);
      }
      this.end();
    } finally {
      await this.close();
    }
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  async #bytes(): Promise<Bytes> {
    this.#opening ??= this.#transport.open(this.#request, this.#patience);
    return this.#opening;
  }
}

/** Sending a request until it is answered: what is tried again, how often, and until when. */
import { ApiError, ClientError, ConnectionFailed, StreamCut, TimedOut, UnexpectedAnswer } from "./errors.js";
import { Leash, sleep, throwIfAborted, type Signals } from "./leash.js";
import type { ClientOptions, Retries, Timeouts } from "./options.js";
import { isObject, ofAnswer } from "./refusals.js";
import type { Request } from "./requests.js";

/** Whom to ask as whom, and how patiently. */
export interface Settings {
  readonly baseUrl: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeouts: Timeouts;
  readonly retries: Retries;
  readonly fetch: NonNullable<ClientOptions["fetch"]>;
}

export interface Patience {
  readonly signals: Signals;
  /** Milliseconds in all. */
  readonly timeout?: number | undefined;
}

/** The tries of one request: how many, and until when. */
class Attempts {
  readonly #settings: Settings;
  readonly #deadline: number;
  /** What the last try came to: who woke too late for another is told that. */
  #last: ClientError | undefined;
  #failed = 0;

  constructor(settings: Settings, timeout: number | undefined) {
    this.#settings = settings;
    this.#deadline = Date.now() + (timeout ?? settings.timeouts.total);
  }

  /**
   * Milliseconds until silence is an error. Throws TimedOut when there are none left, or what the
   * last try came to.
   */
  patience({ isSilent = false }: { isSilent?: boolean | undefined } = {}): number {
    const left = this.#deadline - Date.now();
    if (left <= 0) throw this.#last ?? new TimedOut("No whole answer within the time for it.");
    return isSilent ? left : Math.min(left, this.#settings.timeouts.read);
  }

  /**
   * Milliseconds to wait before the next try; throws the error when there is to be none. Waiting
   * for what is under way anyway is no failed try, and ends by the time alone.
   */
  waitAfter(error: unknown): number {
    const { count, firstWait, longestWait } = this.#settings.retries;
    if (!(error instanceof ClientError) || !error.isRetryable || count === 0) throw error;
    this.#last = error;
    const asked = error instanceof ApiError ? (error.retryAfter ?? 0) * 1000 : 0;
    let wait = Math.max(asked, firstWait);
    if (!(error instanceof ApiError && error.isWaiting)) {
      this.#failed += 1;
      if (this.#failed > count) throw error;
      const longest = Math.min(firstWait * 2 ** (this.#failed - 1), longestWait);
      wait = Math.max(asked, longest * (0.5 + Math.random() / 2));
    }
    if (Date.now() + wait >= this.#deadline) throw error;
    return wait;
  }
}

export class Transport {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** The answer to a request, tried again where that is safe. */
  async send<Answer>(request: Request<Answer>, { signals, timeout }: Patience): Promise<Answer> {
    return this.#untilAnswered(signals, timeout, async (attempts) => {
      const leash = new Leash(signals);
      try {
        leash.limit(attempts.patience(request));
        const response = await this.#fetch(request, leash);
        return read(request, response, await this.#text(response, leash));
      } finally {
        leash.free();
      }
    });
  }

  /** A stream's bytes, begun and not read; the caller closes them. */
  async open(request: Request<never>, { signals, timeout }: Patience): Promise<Bytes> {
    return this.#untilAnswered(signals, timeout, async (attempts) => {
      const leash = new Leash(signals);
      try {
        leash.limit(attempts.patience());
        const response = await this.#fetch(request, leash);
        if (!response.ok) throw refused(response, await this.#text(response, leash));
        return new Bytes(response, leash, () => attempts.patience());
      } catch (error) {
        leash.free();
        throw error;
      }
    });
  }

  async #untilAnswered<Answer>(
    signals: Signals,
    timeout: number | undefined,
    attempt: (attempts: Attempts) => Promise<Answer>,
  ): Promise<Answer> {
    const attempts = new Attempts(this.#settings, timeout);
    for (;;) {
      try {
        return await attempt(attempts);
      } catch (error) {
        throwIfAborted(signals);
        await sleep(attempts.waitAfter(error), signals);
      }
    }
  }

  async #fetch(request: Request<never>, leash: Leash): Promise<Response> {
    const { baseUrl, headers, fetch } = this.#settings;
    const said: Record<string, string> = { ...headers };
    if (request.body !== undefined) said["Content-Type"] = "application/json";
    if (request.key !== undefined) said["Idempotency-Key"] = request.key;
    try {
      return await fetch(baseUrl + request.path, {
        method: request.method,
        headers: said,
        body: request.body ?? null,
        // Elsewhere a POST would arrive as a GET, and the key with a stranger.
        redirect: "manual",
        cache: "no-store",
        signal: leash.signal,
      });
    } catch (error) {
      throw leash.failure(error);
    }
  }

  async #text(response: Response, leash: Leash): Promise<string> {
    try {
      return await response.text();
    } catch (error) {
      throw leash.failure(error);
    }
  }
}

/** A stream's bytes as they arrive, each within the time for it. */
export class Bytes {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  readonly #leash: Leash;
  readonly #patience: () => number;

  constructor(response: Response, leash: Leash, patience: () => number) {
    this.#reader = response.body?.getReader();
    this.#leash = leash;
    this.#patience = patience;
  }

  /** undefined at the end. Throws StreamCut, TimedOut, or a signal's reason. */
  async next(): Promise<Uint8Array | undefined> {
    try {
      this.#leash.limit(this.#patience());
      return (await this.#reader?.read())?.value;
    } catch (error) {
      const failure = error instanceof TimedOut ? error : this.#leash.failure(error);
      if (failure instanceof ConnectionFailed && !(failure instanceof TimedOut)) {
        throw new StreamCut("The connection ended before the stream did.", { cause: error });
      }
      throw failure;
    }
  }

  /** Leave it: the server stops the model. */
  close(): void {
    this.#leash.pull();
    this.#leash.free();
    this.#reader?.cancel().catch(() => undefined);
  }
}

function read<Answer>(request: Request<Answer>, response: Response, text: string): Answer {
  if (!response.ok) throw refused(response, text);
  const answer = json(text);
  if (!isObject(answer) || !(request.has in answer)) {
    const [path] = request.path.split("?");
    throw new UnexpectedAnswer(
      `${request.method} ${path} answered without what it should have: ${request.has}.` +
        " Is baseUrl right?",
    );
  }
  return answer as Answer;
}

function refused(response: Response, text: string): ApiError {
  return ofAnswer(response.status, response.headers, json(text));
}

/** undefined for what is no JSON. */
function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

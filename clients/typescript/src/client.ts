import type { Balance, JobBill, JobDetails, ListedJob, Quote, TeamUsage } from "./answers.js";
import { OneCall } from "./call.js";
import { Job } from "./job.js";
import type {
  ClientOptions, JobFilter, JobOptions, Messages, OneCallOptions, QuoteOptions, RequestOptions,
  Retries, Timeouts, UsageOptions,
} from "./options.js";
import * as requests from "./requests.js";
import { Stream } from "./stream.js";
import { Transport, type Patience } from "./transport.js";
import { VERSION } from "./version.js";

type Work<T> = (job: Job) => T | Promise<T>;

const DEFAULT_URL = "http://localhost:8003";
const TIMEOUTS: Timeouts = { read: 60_000, total: 660_000 };
const RETRIES: Retries = { count: 4, firstWait: 500, longestWait: 8000 };

/** A team at work. One for a whole process; what is not given is read from SAAS_* variables. */
export class Client {
  readonly teamId: string;
  readonly #transport: Transport;
  readonly #warn: (message: string) => void;

  /** Throws TypeError without a team, for a strange address, and for a key in a browser. */
  constructor(options: ClientOptions = {}) {
    const teamId = options.teamId ?? variable("SAAS_TEAM_ID");
    if (!teamId) throw new TypeError("Say which team: teamId, or SAAS_TEAM_ID.");
    const apiKey = options.apiKey ?? variable("SAAS_API_KEY");
    if (apiKey && isBrowser()) {
      throw new TypeError(
        "A team's key in a browser is everybody's. Leave apiKey out, and let baseUrl be a proxy" +
          " of your own that adds it.",
      );
    }
    const ask = options.fetch ?? globalThis.fetch;
    this.teamId = teamId;
    this.#warn = options.warn ?? ((message) => console.warn(`saas-litellm-client: ${message}`));
    this.#transport = new Transport({
      baseUrl: checkedUrl(options.baseUrl ?? variable("SAAS_BASE_URL") ?? DEFAULT_URL),
      headers: {
        Accept: "application/json",
        // A browser says who it is itself.
        ...(isBrowser() ? {} : { "User-Agent": `saas-litellm-client-js/${VERSION}` }),
        ...(apiKey ? { Authorization: `Bearer ${apiKey}` } : {}),
        ...options.headers,
      },
      timeouts: { ...TIMEOUTS, ...options.timeouts },
      retries: { ...RETRIES, ...options.retries },
      // Not as a method: a browser's fetch refuses any `this` but its own.
      fetch: (url, init) => ask(url, init),
    });
  }

  /**
   * A job around some work: it completes by itself, fails by an error, is cancelled by an abort, and
   * what the work returns is returned. Without work: an open job, to be closed by hand.
   */
  job<T>(jobType: string, work: Work<T>): Promise<T>;
  job<T>(jobType: string, options: JobOptions, work: Work<T>): Promise<T>;
  job(jobType: string, options?: JobOptions): Promise<Job>;
  async job<T>(
    jobType: string, given: JobOptions | Work<T> = {}, last?: Work<T>,
  ): Promise<T | Job> {
    const [options, work] = typeof given === "function" ? [{}, given] : [given, last];
    const job = await this.#open(jobType, options);
    return work ? job.run(work) : job;
  }

  /** A job that was opened elsewhere; its `run` closes it like any other. */
  continueJob(jobId: string, { signal }: { signal?: AbortSignal | undefined } = {}): Job {
    return new Job(requests.checkedId(jobId), this.#transport, { signal, warn: this.#warn });
  }

  /** A job of one call, in one request: completed if it delivers anything, else failed. */
  async call(jobType: string, messages: Messages, options: OneCallOptions = {}): Promise<OneCall> {
    const { signal, timeout, idempotencyKey, ...fields } = options;
    const request = requests.oneCall(this.teamId, jobType, messages, fields, idempotencyKey);
    return new OneCall(await this.#transport.send(request, patience({ signal, timeout })));
  }

  /** The same, answered in chunks; `costs` at its end is what the whole job cost. */
  stream(jobType: string, messages: Messages, options: OneCallOptions = {}): Stream {
    const { signal, timeout, idempotencyKey, ...fields } = options;
    const request = requests.oneStream(this.teamId, jobType, messages, fields, idempotencyKey);
    return new Stream(this.#transport, request, patience({ signal, timeout }));
  }

  /** What such a job costs; a job made with its `quote_id` never pays more than its p95. */
  async quote(jobType: string, options: QuoteOptions = {}): Promise<Quote> {
    return this.#transport.send(requests.quote(this.teamId, jobType, options), patience(options));
  }

  async balance(options: RequestOptions = {}): Promise<Balance> {
    return this.#transport.send(requests.balance(this.teamId), patience(options));
  }

  async usage(options: UsageOptions = {}): Promise<TeamUsage> {
    return this.#transport.send(requests.usage(this.teamId, options), patience(options));
  }

  /** The team's jobs, newest first, fetched page by page as they are looked at. */
  async *jobs(filter: JobFilter = {}): AsyncGenerator<ListedJob, void, undefined> {
    let cursor: string | undefined;
    do {
      const request = requests.listJobs(this.teamId, filter, cursor);
      const page = await this.#transport.send(request, patience(filter));
      yield* page.jobs;
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }

  async showJob(jobId: string, options: RequestOptions = {}): Promise<JobDetails> {
    return this.#transport.send(requests.showJob(jobId), patience(options));
  }

  async showCosts(jobId: string, options: RequestOptions = {}): Promise<JobBill> {
    return this.#transport.send(requests.showCosts(jobId), patience(options));
  }

  /**
   * An abort is obeyed at once, but whether the job was made by then is known later: then it is
   * cancelled, or it would hold credits until it is idle for long enough.
   */
  async #open(jobType: string, options: JobOptions): Promise<Job> {
    const { signal, idempotencyKey, ...fields } = options;
    signal?.throwIfAborted();
    const request = requests.createJob(this.teamId, jobType, fields, idempotencyKey);
    const making = this.#transport
      .send(request, patience({}))
      .then((made) => new Job(made.job_id, this.#transport, { signal, warn: this.#warn }));
    if (!signal) return making;
    let onAbort = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => {
        making.then((job) => job.run(() => undefined)).catch(() => undefined);
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort);
    });
    return Promise.race([making, aborted]).finally(() => signal.removeEventListener("abort", onAbort));
  }
}

function patience({ signal, timeout }: RequestOptions): Patience {
  return { signals: [signal], timeout };
}

function isBrowser(): boolean {
  return typeof document !== "undefined" && typeof window !== "undefined";
}

function variable(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name] || undefined;
}

/** Without a slash at its end. Throws TypeError. */
function checkedUrl(url: string): string {
  // In a browser one's own proxy may be named by its path alone.
  const { protocol } = new URL(url, isBrowser() ? document.baseURI : undefined);
  if (!/^https?:$/.test(protocol)) throw new TypeError("baseUrl must begin with http:// or https://.");
  return url.replace(/\/+$/, "");
}

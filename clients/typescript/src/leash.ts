/** What may end a request early: the caller's signals, its deadline, and a silence. */
import { ConnectionFailed, TimedOut } from "./errors.js";

export type Signals = readonly (AbortSignal | undefined)[];

/** The longest that a timer can wait, in milliseconds. */
const LONGEST = 2 ** 31 - 1;

/**
 * One try's own AbortSignal, aborted by any of the caller's (AbortSignal.any is not everywhere).
 * `free()` lets go of them, or a signal that lives long would gather listeners.
 */
export class Leash {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal[];
  readonly #listener = (): void => this.pull();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isLate = false;

  /** Throws the reason of a signal that is aborted already. */
  constructor(signals: Signals) {
    throwIfAborted(signals);
    this.#outer = signals.filter((signal) => signal !== undefined);
    for (const signal of this.#outer) signal.addEventListener("abort", this.#listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** From now on, so many milliseconds; the last word counts. */
  limit(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#isLate = true;
      this.pull();
    }, Math.min(milliseconds, LONGEST));
  }

  /** End the request. */
  pull(): void {
    this.#controller.abort();
  }

  free(): void {
    clearTimeout(this.#timer);
    for (const signal of this.#outer) signal.removeEventListener("abort", this.#listener);
  }

  /** What to throw for what fetch threw. The caller's own reason comes first. */
  failure(thrown: unknown): unknown {
    throwIfAborted(this.#outer);
    if (this.#isLate) return new TimedOut("No answer in time.");
    const cause = thrown instanceof Error ? (thrown.cause ?? thrown) : thrown;
    const said = cause instanceof Error ? cause.message : "the connection was lost";
    return new ConnectionFailed(`No answer (${said}).`, { cause: thrown });
  }
}

export function throwIfAborted(signals: Signals): void {
  for (const signal of signals) signal?.throwIfAborted();
}

/** Wait so many milliseconds. Throws the reason of a signal that is aborted until then. */
export async function sleep(milliseconds: number, signals: Signals): Promise<void> {
  const leash = new Leash(signals);
  try {
    await new Promise<void>((resolve) => {
      leash.signal.addEventListener("abort", () => resolve());
      leash.limit(milliseconds);
    });
  } finally {
    leash.free();
  }
  throwIfAborted(signals);
}

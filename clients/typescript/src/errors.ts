/**
 * Everything that can go wrong, one class for each code of the server.
 *
 *     ClientError
 *     ├── ApiError                      the server said no; `code` says why
 *     │   ├── InvalidRequest            400 405 413 415 422  ValidationFailed, ContentFiltered, ...
 *     │   ├── Unauthenticated           401  InvalidApiKey, KeyExpired
 *     │   ├── PaymentRequired           402  InsufficientCredits, BudgetExceeded, JobCapExceeded
 *     │   ├── Forbidden                 403  TeamPaused, ModelNotAllowed, ...
 *     │   ├── NotFound                  404
 *     │   ├── Conflict                  409  JobClosed, CallsInFlight, IdempotencyKeyReused, ...
 *     │   ├── RateLimited               429
 *     │   └── ServerError               5xx  InternalError, StreamInterrupted
 *     │       └── Unavailable           502 503 504  ProviderError, Overloaded, ProviderTimeout, ...
 *     ├── ConnectionFailed              no answer came, whatever was tried
 *     │   └── TimedOut
 *     ├── StreamCut                     the connection ended before the stream did
 *     ├── UnexpectedAnswer              an answer that is not the server's
 *     └── NotStructured                 no valid object, repairs included
 *
 * A code that a newer server brings is an error of its status' family. No message holds a key, a
 * prompt or an answer. An abort is none of these: the signal's own `reason` is thrown.
 */

/** Anything this package throws, but for an abort's reason and a wrong argument's TypeError. */
export class ClientError extends Error {
  /** Whether the same request may be sent again, with the same idempotency key. */
  static readonly isRetryable: boolean = false;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }

  get isRetryable(): boolean {
    return (this.constructor as typeof ClientError).isRetryable;
  }
}

/** No answer came. What was asked may have been done: send it again with the same key. */
export class ConnectionFailed extends ClientError {
  static override readonly isRetryable: boolean = true;
}

/** No answer came in time. */
export class TimedOut extends ConnectionFailed {}

/** The connection ended before the stream did. What was delivered is charged, once. */
export class StreamCut extends ClientError {}

/** An answer that is not the server's; look whether `baseUrl` is right. */
export class UnexpectedAnswer extends ClientError {}

/** No valid object, repairs included. `text` is the last answer, `problems` what is wrong. */
export class NotStructured extends ClientError {
  readonly text: string;
  readonly problems: readonly string[];

  constructor(message: string, { text, problems = [] }: { text: string; problems?: readonly string[] }) {
    super(message);
    this.text = text;
    this.problems = problems;
  }
}

/** What an error says beside its message. */
export interface ApiErrorFacts {
  code?: string;
  status?: number;
  type?: string;
  param?: string | null;
  requestId?: string;
  retryAfter?: number | undefined;
  details?: Readonly<Record<string, unknown>>;
}

/**
 * The server's no. `code` is stable, `serverMessage` is for people (`message` adds the code and the
 * request's id); `param` names the field at fault, `requestId` is what to quote to the operator,
 * `retryAfter` is in seconds, and `details` holds the figures of this code.
 */
export class ApiError extends ClientError {
  /** The code whose class this is; families that are nobody's have none. */
  static readonly code: string = "";
  static readonly status: number = 400;
  /** What is asked for is under way: waiting for it is no failed try. */
  static readonly isWaiting: boolean = false;

  readonly serverMessage: string;
  readonly code: string;
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly requestId: string;
  readonly retryAfter: number | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(message: string, facts: ApiErrorFacts = {}) {
    const kind = new.target;
    const code = facts.code || kind.code;
    const status = facts.status ?? kind.status;
    const requestId = facts.requestId ?? "";
    super(`${message} (${[code || String(status), requestId].filter(Boolean).join(", ")})`);
    this.serverMessage = message;
    this.code = code;
    this.status = status;
    this.type = facts.type ?? "";
    this.param = facts.param ?? null;
    this.requestId = requestId;
    this.retryAfter = facts.retryAfter;
    this.details = facts.details ?? {};
  }

  get isWaiting(): boolean {
    return (this.constructor as typeof ApiError).isWaiting;
  }
}

export class InvalidRequest extends ApiError {
  static override readonly code: string = "invalid_request";
}

export class InvalidJson extends InvalidRequest {
  static override readonly code: string = "invalid_json";
}

/** The model's content filter refused the request. */
export class ContentFiltered extends InvalidRequest {
  static override readonly code: string = "content_filtered";
}

export class MethodNotAllowed extends InvalidRequest {
  static override readonly code: string = "method_not_allowed";
  static override readonly status: number = 405;
}

export class PayloadTooLarge extends InvalidRequest {
  static override readonly code: string = "payload_too_large";
  static override readonly status: number = 413;
}

export class UnsupportedMediaType extends InvalidRequest {
  static override readonly code: string = "unsupported_media_type";
  static override readonly status: number = 415;
}

/** `param` names the field. */
export class ValidationFailed extends InvalidRequest {
  static override readonly code: string = "validation_failed";
  static override readonly status: number = 422;
}

export class Unauthenticated extends ApiError {
  static override readonly status: number = 401;
}

export class InvalidApiKey extends Unauthenticated {
  static override readonly code: string = "invalid_api_key";
}

export class KeyExpired extends Unauthenticated {
  static override readonly code: string = "key_expired";
}

export class PaymentRequired extends ApiError {
  static override readonly status: number = 402;

  get creditsNeeded(): number | undefined {
    return this.#figure("credits_needed");
  }

  get creditsAvailable(): number | undefined {
    return this.#figure("credits_available");
  }

  #figure(name: string): number | undefined {
    const found = this.details[name];
    return typeof found === "number" ? found : undefined;
  }
}

export class InsufficientCredits extends PaymentRequired {
  static override readonly code: string = "insufficient_credits";
}

export class BudgetExceeded extends PaymentRequired {
  static override readonly code: string = "budget_exceeded";
}

/** The call could exceed the job's `max_credits`; the job is still open. */
export class JobCapExceeded extends PaymentRequired {
  static override readonly code: string = "job_cap_exceeded";
}

export class Forbidden extends ApiError {
  static override readonly status: number = 403;
}

export class InsufficientScope extends Forbidden {
  static override readonly code: string = "insufficient_scope";
}

export class TeamMismatch extends Forbidden {
  static override readonly code: string = "team_mismatch";
}

export class TeamPaused extends Forbidden {
  static override readonly code: string = "team_paused";
}

export class TeamSuspended extends Forbidden {
  static override readonly code: string = "team_suspended";
}

export class OrganizationSuspended extends Forbidden {
  static override readonly code: string = "organization_suspended";
}

export class ModelNotAllowed extends Forbidden {
  static override readonly code: string = "model_not_allowed";
}

export class NotFound extends ApiError {
  static override readonly code: string = "not_found";
  static override readonly status: number = 404;
}

export class Conflict extends ApiError {
  static override readonly code: string = "conflict";
  static override readonly status: number = 409;
}

export class JobClosed extends Conflict {
  static override readonly code: string = "job_closed";
}

/** The job cannot be completed while its calls run. */
export class CallsInFlight extends Conflict {
  static override readonly code: string = "calls_in_flight";
  static override readonly isRetryable: boolean = true;
  static override readonly isWaiting: boolean = true;
}

/** The first request with this idempotency key is still running. */
export class RequestInProgress extends Conflict {
  static override readonly code: string = "request_in_progress";
  static override readonly isRetryable: boolean = true;
  static override readonly isWaiting: boolean = true;
}

export class IdempotencyKeyReused extends Conflict {
  static override readonly code: string = "idempotency_key_reused";
}

/** This request was answered and charged before, and its answer was not kept. */
export class AnswerNotKept extends Conflict {
  static override readonly code: string = "answer_not_kept";
}

export class QuoteUsed extends Conflict {
  static override readonly code: string = "quote_used";
}

export class RateLimited extends ApiError {
  static override readonly code: string = "rate_limited";
  static override readonly status: number = 429;
  static override readonly isRetryable: boolean = true;
}

export class ServerError extends ApiError {
  static override readonly status: number = 500;
}

export class InternalError extends ServerError {
  static override readonly code: string = "internal_error";
}

/** The stream was cut before; what it delivered then came again, and was charged once. */
export class StreamInterrupted extends ServerError {
  static override readonly code: string = "stream_interrupted";
  static override readonly status: number = 502;
}

export class Unavailable extends ServerError {
  static override readonly status: number = 503;
  static override readonly isRetryable: boolean = true;
}

export class ProviderError extends Unavailable {
  static override readonly code: string = "provider_error";
  static override readonly status: number = 502;
}

export class ModelUnavailable extends Unavailable {
  static override readonly code: string = "model_unavailable";
}

export class Overloaded extends Unavailable {
  static override readonly code: string = "overloaded";
}

export class ProviderTimeout extends Unavailable {
  static override readonly code: string = "provider_timeout";
  static override readonly status: number = 504;
}

const OF_A_CODE: readonly (typeof ApiError)[] = [
  InvalidRequest, InvalidJson, ContentFiltered, MethodNotAllowed, PayloadTooLarge,
  UnsupportedMediaType, ValidationFailed, InvalidApiKey, KeyExpired, InsufficientCredits,
  BudgetExceeded, JobCapExceeded, InsufficientScope, TeamMismatch, TeamPaused, TeamSuspended,
  OrganizationSuspended, ModelNotAllowed, NotFound, Conflict, JobClosed, CallsInFlight,
  RequestInProgress, IdempotencyKeyReused, AnswerNotKept, QuoteUsed, RateLimited, InternalError,
  StreamInterrupted, ProviderError, ModelUnavailable, Overloaded, ProviderTimeout,
];

/** The class of each code. */
export const BY_CODE: ReadonlyMap<string, typeof ApiError> = new Map(
  OF_A_CODE.map((kind) => [kind.code, kind]),
);

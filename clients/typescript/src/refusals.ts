/** From what the server (or whoever stands before it) answered to an error of this package. */
import * as errors from "./errors.js";
import type { ApiError } from "./errors.js";

const FAMILIES: Readonly<Record<number, typeof ApiError>> = {
  401: errors.Unauthenticated,
  402: errors.PaymentRequired,
  403: errors.Forbidden,
  404: errors.NotFound,
  409: errors.Conflict,
  429: errors.RateLimited,
  502: errors.Unavailable,
  503: errors.Unavailable,
  504: errors.Unavailable,
};

/** The error of an `error` object; without a `status` within a stream. */
export function ofEnvelope(
  envelope: Readonly<Record<string, unknown>>,
  { status, retryAfter }: { status?: number; retryAfter?: number | undefined } = {},
): ApiError {
  const { message, type, code, param, request_id: requestId, ...details } = envelope;
  const named = text(code);
  const kind = errors.BY_CODE.get(named) ?? family(status ?? 500);
  return new kind(text(message) || "The request was refused.", {
    code: named,
    ...(status === undefined ? {} : { status }),
    type: text(type),
    param: typeof param === "string" ? param : null,
    requestId: text(requestId),
    retryAfter,
    details,
  });
}

/** The error of a whole answer that is none of 2xx; `body` is its JSON, undefined if it has none. */
export function ofAnswer(status: number, headers: Headers, body: unknown): ApiError {
  const retryAfter = seconds(headers.get("Retry-After"));
  if (isObject(body) && isObject(body["error"])) {
    return ofEnvelope(body["error"], { status, retryAfter });
  }
  const kind = family(status);
  return new kind(
    `HTTP ${status}, and not in the server's words. Is baseUrl right, and is the server up?`,
    // A proxy said it: none of the server's codes stands for that.
    { code: `http_${status}`, status, requestId: headers.get("X-Request-Id") ?? "", retryAfter },
  );
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function family(status: number): typeof ApiError {
  return FAMILIES[status] ?? (status >= 500 ? errors.ServerError : errors.InvalidRequest);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A Retry-After header: seconds, or a date. */
function seconds(header: string | null): number | undefined {
  if (header === null) return undefined;
  const given = header.trim() === "" ? NaN : Number(header);
  const found = Number.isNaN(given) ? (Date.parse(header) - Date.now()) / 1000 : given;
  return Number.isNaN(found) ? undefined : Math.max(0, found);
}

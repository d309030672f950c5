/** Each request as a value: where it goes, what it says, what its answer must have. Pure. */
import type * as answers from "./answers.js";
import type {
  CallFields, CompleteOptions, JobFields, JobFilter, Message, Messages, QuoteOptions, UsageOptions,
} from "./options.js";

/**
 * `body` and `key` are made once, so that every try of a request is the same one. `isSilent`:
 * nothing arrives until all of it is done. `has`: a field that no other answer has.
 */
export interface Request<Answer> {
  readonly method: "GET" | "POST" | "PATCH";
  readonly path: string;
  readonly has: keyof Answer & string;
  readonly body?: string;
  readonly key?: string;
  readonly isSilent?: boolean;
}

type Given = Readonly<Record<string, unknown>>;

export function createJob(
  teamId: string, jobType: string, fields: JobFields, key?: string,
): Request<answers.CreatedJob> {
  return post("/api/jobs/create", "created_at", { team_id: teamId, job_type: jobType, ...fields }, key);
}

export function call(
  jobId: string, messages: Messages, fields: CallFields, key?: string,
): Request<answers.CallAnswer> {
  const body = { messages: listed(messages), ...fields };
  return { ...post(`/api/jobs/${jobId}/llm-call`, "response", body, key), isSilent: true };
}

export function stream(
  jobId: string, messages: Messages, fields: CallFields, key?: string,
): Request<answers.CallAnswer> {
  const body = { messages: listed(messages), ...fields };
  return post(`/api/jobs/${jobId}/llm-call-stream`, "response", body, key);
}

export function oneCall(
  teamId: string, jobType: string, messages: Messages, fields: CallFields & JobFields, key?: string,
): Request<answers.OneCallAnswer> {
  const body = ofOneCall(teamId, jobType, messages, fields);
  return { ...post("/api/jobs/create-and-call", "response", body, key), isSilent: true };
}

export function oneStream(
  teamId: string, jobType: string, messages: Messages, fields: CallFields & JobFields, key?: string,
): Request<answers.OneCallAnswer> {
  const body = ofOneCall(teamId, jobType, messages, fields);
  return post("/api/jobs/create-and-call-stream", "response", body, key);
}

export function complete(jobId: string, options: CompleteOptions = {}): Request<answers.ClosedJob> {
  const { result, metadata, outcome } = options;
  const kept = { ...metadata, ...(result === undefined ? {} : { result }) };
  return post(`/api/jobs/${jobId}/complete`, "completed_at", {
    status: "completed",
    metadata: Object.keys(kept).length ? kept : undefined,
    outcome,
  });
}

export function fail(jobId: string, why: string, metadata?: Given): Request<answers.ClosedJob> {
  return post(`/api/jobs/${jobId}/complete`, "completed_at", {
    status: "failed",
    metadata,
    error_message: within(why, 2000),
  });
}

export function cancel(jobId: string, reason: string): Request<answers.ClosedJob> {
  return post(`/api/jobs/${jobId}/cancel`, "completed_at", { reason: within(reason, 500) });
}

export function setMetadata(jobId: string, metadata: Given): Request<answers.JobMetadata> {
  // To merge the same twice is to merge it once: no key is needed.
  const path = `/api/jobs/${jobId}/metadata`;
  return { method: "PATCH", path, has: "updated_at", body: JSON.stringify({ metadata }) };
}

export function quote(teamId: string, jobType: string, options: QuoteOptions): Request<answers.Quote> {
  return post("/api/jobs/quote", "quote_id", {
    team_id: teamId,
    job_type: jobType,
    model: options.model,
    messages: options.messages === undefined ? undefined : listed(options.messages),
    expected_calls: options.expected_calls,
  });
}

export function showJob(jobId: string): Request<answers.JobDetails> {
  return get(`/api/jobs/${checkedId(jobId)}`, "status_history");
}

export function showCosts(jobId: string): Request<answers.JobBill> {
  return get(`/api/jobs/${checkedId(jobId)}/costs`, "costs");
}

export function listJobs(teamId: string, filter: JobFilter, cursor?: string): Request<answers.JobPage> {
  const { metadata = {}, signal: _signal, timeout: _timeout, ...plain } = filter;
  const wanted = Object.entries(metadata).map(([name, value]) => [`metadata.${name}`, value]);
  const query = { ...plain, ...Object.fromEntries(wanted), cursor };
  return get(`/api/teams/${encodeURIComponent(teamId)}/jobs`, "jobs", query);
}

export function usage(teamId: string, options: UsageOptions): Request<answers.TeamUsage> {
  const { signal: _signal, timeout: _timeout, ...query } = options;
  return get(`/api/teams/${encodeURIComponent(teamId)}/usage`, "summary", query);
}

export function balance(teamId: string): Request<answers.Balance> {
  return get(`/api/credits/teams/${encodeURIComponent(teamId)}/balance`, "available");
}

/** A message list; plain words are one user's. */
export function listed(messages: Messages): Message[] {
  return typeof messages === "string" ? [{ role: "user", content: messages }] : [...messages];
}

/** A job's id, which becomes part of a path. Throws TypeError. */
export function checkedId(jobId: string): string {
  if (!/^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i.test(jobId)) {
    throw new TypeError("A job's id is a UUID.");
  }
  return jobId;
}

/** Unguessable and unique, also where `crypto.randomUUID` is missing (Node 18, plain HTTP). */
export function newKey(): string {
  const bytes =
    globalThis.crypto?.getRandomValues(new Uint8Array(16)) ??
    Uint8Array.from({ length: 16 }, () => Math.random() * 256);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function ofOneCall(
  teamId: string, jobType: string, messages: Messages, fields: CallFields & JobFields,
): Given {
  const head = { team_id: teamId, job_type: jobType, messages: listed(messages) };
  return { ...head, complete: true, ...fields };
}

/** What is undefined is left to the server. Throws TypeError for what has no JSON. */
function post<Answer>(
  path: string, has: keyof Answer & string, body: Given, key?: string,
): Request<Answer> {
  return { method: "POST", path, has, body: JSON.stringify(body), key: key ?? newKey() };
}

function get<Answer>(path: string, has: keyof Answer & string, query: Given = {}): Request<Answer> {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  const asked = new URLSearchParams(given.map(([name, value]) => [name, text(value)]));
  return { method: "GET", path: given.length ? `${path}?${asked}` : path, has };
}

function text(value: unknown): string {
  return value instanceof Date ? value.toISOString() : String(value);
}

/** By code points, as the server counts; undefined for nothing. */
function within(words: string, length: number): string | undefined {
  return Array.from(words).slice(0, length).join("") || undefined;
}

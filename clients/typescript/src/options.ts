/** What a caller may set: of the client, of a job, of a call. snake_case fields are the server's own. */

/** In milliseconds. */
export interface Timeouts {
  /**
   * The longest silence. A stream breaks it every 15 s; a plain call may be silent until it is done,
   * and only `total` ends it. Default: 60,000.
   */
  read: number;
  /** For a request with all its retries, and for a whole stream. Default: 660,000; the server gives up on a call after 600,000. */
  total: number;
}

/**
 * How often besides the first time (0: no retries), and how long to wait, in milliseconds. The wait
 * doubles from `firstWait` to `longestWait`, less up to half of it by chance, and is never shorter
 * than the server's Retry-After.
 */
export interface Retries {
  count: number;
  firstWait: number;
  longestWait: number;
}

export interface ClientOptions {
  /** Default: SAAS_BASE_URL, else http://localhost:8003. */
  baseUrl?: string;
  /** Default: SAAS_API_KEY. Never in a browser: the constructor refuses it there. */
  apiKey?: string;
  /** Default: SAAS_TEAM_ID. */
  teamId?: string;
  timeouts?: Partial<Timeouts>;
  retries?: Partial<Retries>;
  /** More headers for each request, such as those that a proxy of your own asks for. */
  headers?: Readonly<Record<string, string>>;
  /** Instead of the platform's own. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** Told when a job could not be closed while an error of yours was on its way. Default: console.warn. */
  warn?: (message: string) => void;
}

/** Of one request, whatever it asks. */
export interface RequestOptions {
  /** Aborted, the request ends with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds in all, retries included. */
  timeout?: number | undefined;
}

/** Of a request that is charged or changes something. */
export interface PostOptions extends RequestOptions {
  /** A key of your own outlives your process; else one is made, and kept over retries. */
  idempotencyKey?: string | undefined;
}

export interface TextPart {
  type: "text";
  text: string;
}

export interface ImagePart {
  type: "image_url";
  image_url: { url: string; detail?: "auto" | "low" | "high" };
}

export interface RefusalPart {
  type: "refusal";
  refusal: string;
}

export type Part = (TextPart | ImagePart | RefusalPart) & { cache_control?: object };

/** A tool's call as it stands in a message. */
export interface SaidToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** OpenAI's message. */
export interface Message {
  role: "system" | "developer" | "user" | "assistant" | "tool";
  content?: string | Part[] | null;
  name?: string;
  tool_calls?: SaidToolCall[];
  tool_call_id?: string;
  refusal?: string | null;
}

/** One user's words, or OpenAI's message list. */
export type Messages = string | readonly Message[];

/** OpenAI's tool; `tool()` makes one of a schema. */
export interface Tool {
  type: "function";
  function: { name: string; description?: string; parameters?: object; strict?: boolean };
}

/** The fields of one call: `model` is an alias (default: the team's), the rest OpenAI's chat fields. */
export interface CallFields {
  model?: string;
  purpose?: string;
  call_metadata?: Readonly<Record<string, unknown>>;
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  max_completion_tokens?: number;
  stop?: string | readonly string[];
  n?: number;
  seed?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  logit_bias?: Readonly<Record<string, number>>;
  response_format?: object;
  tools?: readonly Tool[];
  tool_choice?: "none" | "auto" | "required" | object;
  parallel_tool_calls?: boolean;
  reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh";
  logprobs?: boolean;
  top_logprobs?: number;
  user?: string;
  /** `ttl`: seconds for which the same request gets the same answer; 0: none. */
  cache?: { ttl: number };
}

/**
 * The fields of a job. `max_credits` is its cap, which `reserve` sets aside at once; with the
 * `quote_id` of a quote the job never pays more than the quote's p95.
 */
export interface JobFields {
  user_id?: string;
  external_task_id?: string;
  metadata?: Readonly<Record<string, unknown>>;
  max_credits?: number;
  reserve?: boolean;
  quote_id?: string;
}

export interface CallOptions extends CallFields, PostOptions {}

/** `signal` is the whole job's: aborted, its calls end and the job is cancelled. */
export interface JobOptions extends JobFields {
  signal?: AbortSignal | undefined;
  idempotencyKey?: string | undefined;
}

/** Of a job made for one call. */
export interface OneCallOptions extends CallOptions, JobFields {}

export interface StructuredOptions extends Omit<CallOptions, "response_format" | "idempotencyKey"> {
  /** How often an answer that does not fit is sent back. Default: 2. */
  repairs?: number;
  /** Of the schema, if it cannot tell it itself. */
  jsonSchema?: object;
  /** What the model is told the object is called. Default: "answer". */
  schemaName?: string;
}

export interface QuoteOptions extends RequestOptions {
  model?: string;
  messages?: Messages;
  expected_calls?: number;
}

/** A month (2026-01), a day (2026-01-31), or from `start`; default: this month. */
export interface UsageOptions extends RequestOptions {
  period?: string;
  start?: Date | string;
  end?: Date | string;
  group_by?: "job_type" | "day" | "user";
}

/** `metadata`: text values that the jobs' metadata must have; `limit`: jobs a page. */
export interface JobFilter extends RequestOptions {
  status?: "pending" | "in_progress" | "completed" | "failed" | "cancelled";
  job_type?: string;
  user_id?: string;
  created_after?: Date | string;
  created_before?: Date | string;
  metadata?: Readonly<Record<string, string>>;
  limit?: number;
}

export interface CompleteOptions extends RequestOptions {
  /** Kept as the metadata's `result`. */
  result?: unknown;
  metadata?: Readonly<Record<string, unknown>>;
  outcome?: "full" | "partial" | "none";
}

export interface FailOptions extends RequestOptions {
  metadata?: Readonly<Record<string, unknown>>;
}

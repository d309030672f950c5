/**
 * What the server answers: its own fields, in its own snake_case. Fields it adds later are let be.
 *
 * Amounts are in credits or USD. They are exact to 15 digits; add many of them up as `nano()`.
 * Ids are UUIDs as text, times are ISO 8601 as text.
 */

export interface CallCosts {
  credits: number;
  total_cost_usd: number;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface AnsweredFunction {
  name: string;
  /** JSON as the model wrote it; not checked. */
  arguments: string;
}

export interface AnsweredToolCall {
  id: string;
  type: string;
  function: AnsweredFunction;
}

export interface CallResponse {
  content: string | null;
  finish_reason: string | null;
  tool_calls: AnsweredToolCall[] | null;
  refusal: string | null;
  logprobs?: Record<string, unknown> | null;
  choices?: Record<string, unknown>[] | null;
}

/** `model` is the alias; `cached`: the answer came from the team's cache. */
export interface CallFacts {
  model: string;
  tokens_used: number;
  prompt_tokens: number;
  completion_tokens: number;
  latency_ms: number;
  cached: boolean;
}

export interface CallAnswer {
  call_id: string;
  job_id: string;
  response: CallResponse;
  metadata: CallFacts;
  costs: CallCosts;
}

export interface CreatedJob {
  job_id: string;
  team_id: string;
  job_type: string;
  status: string;
  created_at: string;
}

/** A job of one call, closed with it: `costs` is what the whole job cost. */
export interface OneCallAnswer extends CallAnswer, CreatedJob {}

export interface JobCosts {
  total_calls: number;
  successful_calls: number;
  failed_calls: number;
  total_tokens: number;
  total_cost_usd: number;
  avg_latency_ms: number;
  credits_charged: number;
  credit_applied: boolean;
  credits_remaining: number;
}

/** `error` is a code; null when the call went well. */
export interface CallLine {
  call_id: string;
  purpose: string;
  model: string;
  tokens: number;
  latency_ms: number;
  error: string | null;
}

/** A job's bill. */
export interface ClosedJob {
  job_id: string;
  status: string;
  completed_at: string;
  costs: JobCosts;
  calls: CallLine[];
}

export interface ListedJob extends CreatedJob {
  user_id: string;
  external_task_id: string;
  metadata: Record<string, unknown>;
  completed_at: string | null;
  total_calls: number;
  credits_charged: number;
  total_cost_usd: number;
}

export interface StatusStep {
  from: string | null;
  to: string;
  at: string;
  reason: string;
}

export interface JobDetails extends ListedJob {
  outcome: string | null;
  max_credits: number | null;
  error_message: string;
  started_at: string | null;
  costs: JobCosts;
  status_history: StatusStep[];
}

export interface JobPage {
  jobs: ListedJob[];
  next_cursor: string | null;
}

export interface CallCostLine extends CallCosts {
  call_id: string;
  purpose: string;
  model: string;
  status: string;
}

export interface JobBill {
  job_id: string;
  status: string;
  costs: JobCosts;
  calls: CallCostLine[];
}

export interface JobMetadata {
  job_id: string;
  metadata: Record<string, unknown>;
  updated_at: string;
}

export interface QuoteCredits {
  expected: number;
  p95: number;
  worst_case: number;
}

/** `source`: "history" of so many jobs, or "worst_case" while they are too few. */
export interface QuoteBasis {
  jobs: number;
  source: string;
}

export interface Quote {
  quote_id: string;
  job_type: string;
  credits: QuoteCredits;
  basis: QuoteBasis;
  valid_until: string;
}

export interface Rates {
  credits_per_usd: number;
}

/** Days that the credits last at the pace of late; null: nothing was spent. */
export interface Runway {
  days: number | null;
  days_at_fastest: number | null;
  days_at_slowest: number | null;
  credits_per_day: number;
  basis_days: number;
}

export interface Lot {
  lot_id: number;
  kind: string;
  credits_granted: number;
  credits_remaining: number;
  priority: number;
  granted_at: string;
  expires_at: string | null;
}

/** In credits: what the wallet owns, has set aside, and can still spend. */
export interface Balance {
  team_id: string;
  balance: number;
  held: number;
  available: number;
  credit_limit: number;
  mode: string;
  rates: Rates;
  runway: Runway;
  lots: Lot[];
}

export interface UsageSums {
  jobs: number;
  completed_jobs: number;
  failed_jobs: number;
  calls: number;
  failed_calls: number;
  total_tokens: number;
  credits_charged: number;
  total_cost_usd: number;
}

/** One group of `group_by`, whose field is set. */
export interface UsageRow extends UsageSums {
  job_type?: string | null;
  day?: string | null;
  user?: string | null;
}

export interface TeamUsage {
  team_id: string;
  start: string;
  end: string;
  summary: UsageSums;
  rows: UsageRow[];
}

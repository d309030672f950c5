/**
 * Client of SaaS LiteLLM: jobs, LLM calls, streams, structured output, credits.
 *
 *     const client = new Client({ apiKey, teamId: "acme-corp" });
 *     const summary = await client.job("document_analysis", async (job) => {
 *       const answer = await job.call("Summarise our contract.");
 *       return answer.text;
 *     });
 */
export type * from "./answers.js";
export { Call, OneCall } from "./call.js";
export { Client } from "./client.js";
export * as errors from "./errors.js";
export { ApiError, ClientError } from "./errors.js";
export type { Chunk, ToolCallDelta } from "./frames.js";
export { StreamedAnswer } from "./frames.js";
export { Job } from "./job.js";
export { nano } from "./money.js";
export type * from "./options.js";
export type { Schema } from "./schema.js";
export { Stream } from "./stream.js";
export { StructuredStream, type DeepPartial } from "./structured.js";
export { tool, ToolCall } from "./toolCalls.js";
export { VERSION } from "./version.js";

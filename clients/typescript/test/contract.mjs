// TypeScript that compiles only if the package's types are those of the server's schema: the same
// fields, each of the same type, required where the server promises or wants it.

/** Our interface by the server's name, for what it answers. */
const ANSWERS = {
  AnswerFunction: "AnsweredFunction", AnswerToolCall: "AnsweredToolCall", BalanceView: "Balance",
  CallAnswer: "CallAnswer", CallCostLine: "CallCostLine", CallCosts: "CallCosts",
  CallFacts: "CallFacts", CallLine: "CallLine", CallResponse: "CallResponse",
  ClosedJob: "ClosedJob", CostsView: "JobBill", CreatedAndCalled: "OneCallAnswer",
  CreatedJob: "CreatedJob", JobCosts: "JobCosts", JobList: "JobPage", JobView: "JobDetails",
  ListedJob: "ListedJob", LotView: "Lot", MetadataView: "JobMetadata", QuoteBasis: "QuoteBasis",
  QuoteCredits: "QuoteCredits", QuoteView: "Quote", RatesView: "Rates", RunwayView: "Runway",
  StatusStep: "StatusStep", UsageRow: "UsageRow", UsageSums: "UsageSums", UsageView: "TeamUsage",
};

/** Our type by the server's name, for what it is sent; made by us, not by the caller: what is left out. */
const BODIES = {
  CallRequest: ["CallFields", "messages"],
  CreateJob: ["JobFields", "team_id", "job_type"],
  CreateAndCall: ["CallFields & JobFields", "messages", "team_id", "job_type", "job_metadata", "complete"],
  Message: ["Message"],
  Function: ['Tool["function"]'],
  Cache: ['NonNullable<CallFields["cache"]>'],
  QuoteJob: ['Omit<QuoteOptions, keyof RequestOptions | "messages">', "team_id", "job_type", "messages"],
  // `result` becomes a part of the metadata, and what failed is said by another method.
  CompleteJob: ['Omit<CompleteOptions, keyof RequestOptions | "result">', "status", "error_message"],
};

/** Where a path's answer or body is one of those; every operation that the package uses. */
const OPERATIONS = [
  ["post /api/jobs/create", "CreateJob", "CreatedJob"],
  ["post /api/jobs/{job_id}/llm-call", "CallRequest", "CallAnswer"],
  ["post /api/jobs/{job_id}/llm-call-stream", "CallRequest"],
  ["post /api/jobs/create-and-call", "CreateAndCall", "CreatedAndCalled"],
  ["post /api/jobs/create-and-call-stream", "CreateAndCall"],
  ["post /api/jobs/{job_id}/complete", "CompleteJob", "ClosedJob"],
  ["post /api/jobs/{job_id}/cancel", "CancelJob", "ClosedJob"],
  ["patch /api/jobs/{job_id}/metadata", "PatchedPatchMetadata", "MetadataView"],
  ["post /api/jobs/quote", "QuoteJob", "QuoteView"],
  ["get /api/jobs/{job_id}", undefined, "JobView"],
  ["get /api/jobs/{job_id}/costs", undefined, "CostsView"],
  ["get /api/teams/{team_id}/jobs", undefined, "JobList", "JobFilter", "cursor"],
  ["get /api/teams/{team_id}/usage", undefined, "UsageView", "UsageOptions"],
  ["get /api/credits/teams/{team_id}/balance", undefined, "BalanceView"],
];

export function contract(schema) {
  const schemas = schema.components.schemas;
  const answered = within(schemas, Object.keys(ANSWERS));
  const sent = within(schemas, Object.keys(BODIES));
  const lines = [
    'import type * as ours from "saas-litellm-client";',
    'import type { CallFields, CompleteOptions, JobFields, JobFilter, Message, QuoteOptions, RequestOptions, Tool, UsageOptions } from "saas-litellm-client";',
    "type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : { they: B }) : { we: A };",
    "type SameKeys<A, B> = Same<keyof A, keyof B>;",
    // What the server takes as null, we leave out.
    "type Loose<T> = { [K in keyof T]-?: NonNullable<T[K]> };",
    ...Object.entries(schemas)
      .filter(([name]) => answered.has(name) || sent.has(name))
      .map(([name, part]) => `type Server_${name} = ${typeOf(part, answered.has(name))};`),
  ];
  const check = (name, type) => lines.push(`export const ${name.replace(/\W+/g, "_")}: ${type} = true;`);
  for (const [theirs, mine] of Object.entries(ANSWERS)) {
    check(`answer_${theirs}`, `Same<ours.${mine}, Server_${theirs}>`);
    check(`keys_of_${theirs}`, `SameKeys<ours.${mine}, Server_${theirs}>`);
  }
  for (const [theirs, [mine, ...made]] of Object.entries(BODIES)) {
    const left = made.length ? made.map((name) => JSON.stringify(name)).join(" | ") : "never";
    const known = `Omit<Server_${theirs}, ${left}>`;
    check(`keys_of_${theirs}`, `SameKeys<${mine}, ${known}>`);
    check(`body_${theirs}`, `Loose<${mine}> extends Loose<${known}> ? true : Loose<${known}>`);
  }
  for (const [operation, body, answer, query, ...made] of OPERATIONS) {
    const [method, path] = operation.split(" ");
    const told = schema.paths[path]?.[method];
    check(`sent_${operation}`, told ? sameName(told.requestBody, body) : "false");
    if (answer) check(`told_${operation}`, sameName(Object.values(told.responses)[0], answer));
    if (query) {
      const names = told.parameters.filter((one) => one.in === "query").map((one) => one.name);
      const theirs = names.filter((name) => !made.includes(name)).map((name) => JSON.stringify(name));
      check(`query_${operation}`, `Same<Exclude<keyof ${query}, keyof RequestOptions>, ${theirs.join(" | ")}>`);
    }
  }
  return `${lines.join("\n")}\n`;
}

const sameName = (content, name) => {
  const found = content?.content["application/json"].schema.$ref;
  return found?.split("/").pop() === name ? "true" : `{ schema: ${JSON.stringify(found ?? null)} }`;
};

/** These schemas' names, and those of what stands inside them. */
function within(schemas, names) {
  const found = new Set();
  const add = (name) => {
    if (found.has(name)) return;
    found.add(name);
    const inside = JSON.stringify(schemas[name] ?? {}).matchAll(/"#\/components\/schemas\/(\w+)"/g);
    for (const [, inner] of inside) add(inner);
  };
  names.forEach(add);
  return found;
}

/** What is sent may be of any kind of object, and is not written to. */
function typeOf(part, isAnswer) {
  const inner = (one) => typeOf(one, isAnswer);
  if (part.$ref) return `Server_${part.$ref.split("/").pop()}`;
  if (part.anyOf) return part.anyOf.map((one) => `(${inner(one)})`).join(" | ");
  if (part.enum) return part.enum.filter(Boolean).map((one) => JSON.stringify(one)).join(" | ");
  if (part.const !== undefined) return JSON.stringify(part.const);
  if (part.type === "array") return `${isAnswer ? "" : "readonly "}(${inner(part.items ?? {})})[]`;
  if (part.type === "object" && part.properties) {
    const fields = Object.entries(part.properties).map(([name, field]) => {
      const isThere = part.required?.includes(name);
      return `${JSON.stringify(name)}${isThere ? "" : "?"}: ${inner(field)}`;
    });
    return `{ ${fields.join("; ")} }`;
  }
  const { additionalProperties: values } = part;
  if (typeof values === "object") return `Readonly<Record<string, ${inner(values)}>>`;
  if (part.type === "object") return isAnswer ? "Record<string, unknown>" : "object";
  return { integer: "number" }[part.type] ?? part.type ?? "unknown";
}

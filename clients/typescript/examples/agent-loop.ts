/**
 * An agent in one job: it calls tools until it has an answer, and never costs more than its cap.
 *
 *     SAAS_BASE_URL=... SAAS_API_KEY=... SAAS_TEAM_ID=acme-corp node agent-loop.js "Who pays?"
 */
import { Client, errors, tool, type Message, type ToolCall } from "saas-litellm-client";
import { z } from "zod";

const CLAUSES: Readonly<Record<string, string>> = {
  rent: "Clause 4: the tenant pays 1,200 a month.",
  repairs: "Clause 9: the landlord pays for repairs above 100.",
};
const MAX_STEPS = 8;

const FindClause = z
  .object({ subject: z.string().describe("One word: rent or repairs") })
  .describe("Find what the contract says about a subject.");

/** What the tool says; what was wrong with the call goes back to the model. */
function use(called: ToolCall): string {
  try {
    return CLAUSES[called.parse(FindClause).subject] ?? "The contract says nothing of it.";
  } catch (error) {
    return `The arguments do not fit: ${error instanceof Error ? error.message : "no idea why"}`;
  }
}

/** The answer; when the cap is reached, what was found until then. */
async function run(client: Client, question: string, maxCredits: number): Promise<string> {
  const found: string[] = [];
  const talk: Message[] = [{ role: "user", content: question }];
  const tools = [tool("find_clause", FindClause)];
  return client.job("contract_agent", { max_credits: maxCredits, reserve: true }, async (job) => {
    try {
      for (let step = 0; step < MAX_STEPS; step += 1) {
        const answer = await job.call(talk, { purpose: `step ${step}`, tools, max_tokens: 300 });
        if (!answer.toolCalls.length) {
          await job.complete({ result: answer.text, outcome: "full" });
          return answer.text;
        }
        talk.push(answer.message);
        for (const called of answer.toolCalls) {
          const said = use(called);
          found.push(said);
          talk.push(called.result(said));
        }
      }
    } catch (error) {
      // The job is still open, and what was found is worth having.
      if (!(error instanceof errors.JobCapExceeded)) throw error;
    }
    await job.complete({ result: found, outcome: found.length ? "partial" : "none" });
    return `Not finished. ${found.join(" ")}`;
  });
}

const question = process.argv.slice(2).join(" ") || "Who pays?";
console.log(await run(new Client(), question, Number(process.env["MAX_CREDITS"] ?? 5)));

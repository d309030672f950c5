// A job from its first call to its bill, and every way that it may end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { errors, Job, nano } from "saas-litellm-client";
import { asked, connect, flaky, gather, script, until } from "./support.mjs";

const client = connect();
const aborted = (reason) => AbortSignal.abort(reason);

/** Runs the work in a job, which is also given back, with what was thrown. */
const ended = async (work, options = {}, of = client) => {
  const found = {};
  try {
    found.returned = await of.job("letter", options, (job) => {
      found.job = job;
      return work(job);
    });
  } catch (error) {
    found.error = error;
  }
  found.shown = found.job && (await client.showJob(found.job.id));
  return found;
};

test("a job completes by itself and gives back what its work returns", async () => {
  await script({ text: "One" }, { text: "Two words" });
  const { job, returned, shown } = await ended(
    async (job) => {
      assert.ok(job instanceof Job);
      const answer = await job.call("Hello", { purpose: "greeting", max_tokens: 50 });
      assert.equal(answer.text, "One");
      assert.equal(answer.job_id, job.id);
      assert.deepEqual(answer.usage, { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 });
      assert.deepEqual(answer.message, { role: "assistant", content: "One" });
      assert.ok(answer.costs.credits > 0);
      const chunks = await gather(job.stream([{ role: "user", content: "Hello" }]));
      return chunks.map((chunk) => chunk.text).join("").trim();
    },
    { metadata: { document_id: "doc_123" }, user_id: "u_7" },
  );
  assert.equal(returned, "Two words");
  assert.equal(job.closed.status, "completed");
  assert.equal(job.closed.costs.total_calls, 2);
  assert.deepEqual([shown.status, shown.user_id], ["completed", "u_7"]);
  assert.deepEqual(shown.metadata, { document_id: "doc_123" });
  const bill = await client.showCosts(job.id);
  const sum = bill.calls.map((call) => nano(call.credits)).reduce((one, other) => one + other);
  assert.equal(sum, nano(job.closed.costs.credits_charged));
  assert.equal(bill.calls[0].purpose, "greeting");
  const [first] = await asked();
  assert.deepEqual(first.json.messages, [{ role: "user", content: "Hello" }]);
  assert.equal(first.json.max_tokens, 50);
});

test("a job needs no options", async () => {
  await script({ text: "Hi" });
  assert.equal(await client.job("letter", async (job) => (await job.call("Hello")).text), "Hi");
});

test("an error fails the job, tells its type alone, and is thrown on", async () => {
  class Trouble extends RangeError {
    name = "Trouble";
  }
  const mine = new Trouble("secret words");
  const { error, job, shown } = await ended(() => Promise.reject(mine));
  assert.equal(error, mine);
  assert.deepEqual([shown.status, shown.error_message], ["failed", "Trouble"]);
  assert.equal(job.closed.status, "failed");
});

test("what is thrown and is no error fails the job, too", async () => {
  const { error, shown } = await ended(() => {
    throw "secret words";
  });
  assert.equal(error, "secret words");
  assert.deepEqual([shown.status, shown.error_message], ["failed", "Error"]);
});

test("an abort cancels the job, its calls at once, with the signal's reason", async () => {
  await script({ first_delay: 30 });
  const controller = new AbortController();
  const reason = new Error("the user left");
  const began = Date.now();
  const { error, shown } = await ended(
    async (job) => {
      const answer = job.call("Hello");
      await until(async () => (await asked()).length === 1);
      controller.abort(reason);
      return answer;
    },
    { signal: controller.signal },
  );
  assert.equal(error, reason);
  assert.equal(shown.status, "cancelled");
  assert.ok(Date.now() - began < 10_000);
});

test("an abort cancels the job though the work does not look", async () => {
  const controller = new AbortController();
  const { error, returned } = await ended(
    async (job) => {
      controller.abort();
      await until(async () => (await client.showJob(job.id)).status === "cancelled");
      return "done all the same";
    },
    { signal: controller.signal },
  );
  assert.equal(error.name, "AbortError");
  assert.equal(returned, undefined);
});

test("an abort of a call's own cancels nothing but the call, when it is caught", async () => {
  await script({ first_delay: 0.5 }, { text: "Second" });
  const { returned, shown } = await ended(async (job) => {
    await assert.rejects(job.call("Hello", { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
    return (await job.call("Hello")).text;
  });
  assert.equal(returned, "Second");
  assert.equal(shown.status, "completed");
});

test("an AbortError that is let through cancels the job", async () => {
  const { error, shown } = await ended((job) => job.call("Hello", { signal: aborted() }));
  assert.equal(error.name, "AbortError");
  assert.equal(shown.status, "cancelled");
});

test("a job aborted while it is made is cancelled when it was", async (context) => {
  const { url, seen } = await flaky(context, "lose the answer");
  const controller = new AbortController();
  const making = connect({ baseUrl: url, retries: { firstWait: 300 } }).job("aborted", {
    signal: controller.signal,
  });
  await until(() => seen.length === 1);
  controller.abort(new Error("the user left"));
  await assert.rejects(making, { message: "the user left" });
  await until(async () => {
    const [job] = await gather(client.jobs({ job_type: "aborted" }));
    return job?.status === "cancelled";
  });
  await assert.rejects(client.job("letter", { signal: aborted() }), { name: "AbortError" });
});

test("whoever closes the job inside is left alone", async () => {
  const completed = await ended((job) => job.complete({ result: { pages: 3 }, outcome: "partial" }));
  assert.deepEqual(completed.shown.metadata, { result: { pages: 3 } });
  assert.equal(completed.shown.outcome, "partial");
  const failed = await ended((job) => job.fail("The file was empty.", { metadata: { pages: 0 } }));
  assert.equal(failed.returned.status, "failed");
  assert.equal(failed.shown.error_message, "The file was empty.");
  assert.deepEqual(failed.shown.metadata, { pages: 0 });
  const cancelled = await ended((job) => job.cancel("changed my mind"));
  assert.equal(cancelled.shown.status, "cancelled");
  const late = await ended(async (job) => {
    await job.complete();
    throw new Error("afterwards");
  });
  assert.deepEqual([late.error.message, late.shown.status], ["afterwards", "completed"]);
});

test("trouble with closing never takes the place of the caller's own error", async (context) => {
  const { url } = await flaky(context, undefined, [500, {}, "oops"]);
  const warnings = [];
  const of = connect({ baseUrl: url, warn: (said) => warnings.push(said) });
  const { error, job, shown } = await ended(() => Promise.reject(new Error("mine")), {}, of);
  assert.equal(error.message, "mine");
  assert.equal(shown.status, "in_progress" === shown.status ? "in_progress" : "pending");
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], new RegExp(`^job ${job.id} could not be closed \\(ServerError\\)`));
  await client.continueJob(job.id).cancel();
});

test("work that went well hears of trouble with completing", async () => {
  const { error, shown } = await ended(async (job) => {
    await client.continueJob(job.id).cancel();
  });
  assert.ok(error instanceof errors.JobClosed);
  assert.equal(shown.status, "cancelled");
});

test("an error while a call still runs fails the job, when the call was quick", async () => {
  await script({ first_delay: 0.3 });
  const { error, shown } = await ended(async (job) => {
    job.call("Hello").catch(() => undefined);
    await until(async () => (await asked()).length === 1);
    throw new Error("mine");
  });
  assert.equal(error.message, "mine");
  assert.equal(shown.status, "failed");
});

test("a job that is opened by hand stays open, and another process goes on with it", async () => {
  await script({ text: "Hi" });
  const { id } = await client.job("letter", { max_credits: 5, reserve: true });
  const found = await connect().continueJob(id).run(async (job) => {
    assert.deepEqual(await job.setMetadata({ page: 1 }), { page: 1 });
    return (await job.call("Hello")).text;
  });
  assert.equal(found, "Hi");
  const shown = await client.showJob(id);
  assert.deepEqual([shown.status, shown.max_credits], ["completed", 5]);
  assert.throws(() => client.continueJob("../../admin"), TypeError);
  await assert.rejects(client.showJob("x/../y"), TypeError);
});

test("leaving `await using` cancels what was not completed, and never throws", async (context) => {
  const left = await client.job("letter");
  await left[Symbol.asyncDispose]();
  assert.equal((await client.showJob(left.id)).status, "cancelled");
  const done = await client.job("letter");
  await done.complete();
  await done[Symbol.asyncDispose]();
  assert.equal((await client.showJob(done.id)).status, "completed");
  const { url } = await flaky(context, undefined, [500, {}, ""]);
  const warnings = [];
  const unlucky = await connect({ baseUrl: url, warn: (said) => warnings.push(said) }).job("letter");
  await unlucky[Symbol.asyncDispose]();
  assert.equal(warnings.length, 1);
});

test("a quote is kept, and a team sees its credits, its usage and its jobs", async () => {
  await script({}, {}, {});
  const quote = await client.quote("essay", { messages: "A typical page.", expected_calls: 3 });
  assert.ok(quote.credits.p95 >= quote.credits.expected);
  const before = await client.balance();
  for (const page of ["1", "2", "3"]) {
    const own = page === "1" ? { quote_id: quote.quote_id } : {};
    await client.job("essay", { ...own, metadata: { page } }, (job) => job.call("Hello", { max_tokens: 20 }));
  }
  const after = await client.balance();
  const spent = nano(before.balance) - nano(after.balance);
  const usage = await client.usage({ group_by: "job_type" });
  const row = usage.rows.find((one) => one.job_type === "essay");
  assert.deepEqual([row.jobs, nano(row.credits_charged)], [3, spent]);
  const listed = await gather(client.jobs({ job_type: "essay", limit: 2 }));
  assert.deepEqual(listed.map((job) => job.metadata.page), ["3", "2", "1"]);
  const [second, ...others] = await gather(client.jobs({ metadata: { page: "2" }, job_type: "essay" }));
  assert.equal(second.job_id, listed[1].job_id);
  assert.deepEqual(others, []);
  const since = new Date(Date.now() + 60_000);
  assert.deepEqual(await gather(client.jobs({ created_after: since })), []);
  assert.equal((await client.usage({ start: since, end: new Date(+since + 1000) })).summary.jobs, 0);
});

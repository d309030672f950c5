// What is tried again, how, and that it is paid once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { errors, nano } from "saas-litellm-client";
import { asked, connect, flaky, gather, script, until } from "./support.mjs";

const balance = async () => nano((await connect().balance()).balance);

/** Each deed, then success: the number of requests, all with one key, and of charges. */
const paidOnce = async (context, deeds, requests) => {
  await script();
  const { url, seen } = await flaky(context, ...deeds);
  const before = await balance();
  const answer = await connect({ baseUrl: url }).call("letter", "Hello");
  assert.equal(answer.text, "Hello from afar");
  assert.equal(seen.length, requests);
  assert.equal(new Set(seen.map((one) => one.key)).size, 1);
  assert.match(seen[0].key, /^[0-9a-f]{32}$/);
  assert.equal((await asked()).length, 1);
  assert.equal(before - (await balance()), nano(answer.costs.credits));
  assert.ok(answer.costs.credits > 0);
};

test("a lost request, a lost answer, and busy proxies: one call, one charge", (context) =>
  paidOnce(context, ["lose the request", "lose the answer", [503, {}, "<html>"], [429, {}, ""]], 5));

test("an answer cut in its middle is asked for again with the same key", (context) =>
  paidOnce(context, ["cut the answer"], 2));

test("a request that is still running is waited for, which is no failed try", async (context) => {
  await script({ first_delay: 1.5 });
  const { url, seen } = await flaky(context, "lose the request");
  const slow = connect({ baseUrl: url, retries: { count: 1 } });
  const key = "slow-1";
  const first = connect().call("letter", "Hello", { idempotencyKey: key });
  await until(async () => (await asked()).length === 1);
  const [one, other] = await Promise.all([first, slow.call("letter", "Hello", { idempotencyKey: key })]);
  assert.equal(one.call_id, other.call_id);
  assert.ok(seen.length >= 3, "lost once, told to wait at least once");
  assert.equal((await asked()).length, 1);
});

test("a job is made once, and completed once, whatever is lost", async (context) => {
  const { url, seen } = await flaky(context, "lose the answer", undefined, "lose the answer");
  const type = `lost-${Date.now()}`;
  await connect({ baseUrl: url }).job(type, () => undefined);
  const jobs = await gather(connect().jobs({ job_type: type }));
  assert.deepEqual(jobs.map((job) => job.status), ["completed"]);
  assert.equal(seen.length, 4);
});

test("Retry-After is respected, in seconds and as a date, and bounded by the time there is", async (context) => {
  const soon = new Date(Date.now() + 2500).toUTCString();
  const { url, seen } = await flaky(
    context,
    [429, { "Retry-After": "1" }, ""], undefined,
    [503, { "Retry-After": soon }, ""], undefined,
    [429, { "Retry-After": "30" }, ""],
  );
  const client = connect({ baseUrl: url });
  let began = Date.now();
  await client.balance();
  assert.ok(Date.now() - began >= 1000);
  began = Date.now();
  await client.balance();
  assert.ok(Date.now() - began >= 400 && seen.length === 4);
  began = Date.now();
  await assert.rejects(client.balance({ timeout: 5000 }), (error) => {
    assert.ok(error instanceof errors.RateLimited);
    assert.deepEqual([error.status, error.retryAfter, error.code], [429, 30, "http_429"]);
    return true;
  });
  assert.ok(Date.now() - began < 3000);
});

test("waits grow, are jittered, and end: so many retries and no more", async (context) => {
  const lost = Array.from({ length: 12 }, () => "lose the request");
  const { url, seen } = await flaky(context, ...lost);
  const client = connect({ baseUrl: url, retries: { count: 3, firstWait: 100, longestWait: 200 } });
  const began = Date.now();
  await assert.rejects(client.call("letter", "Hello"), errors.ConnectionFailed);
  const took = Date.now() - began;
  assert.ok(took >= 250, `${took} ms`);
  assert.equal(seen.length, 4);
  seen.length = 0;
  const once = connect({ baseUrl: url, retries: { count: 0 } });
  await assert.rejects(once.balance(), errors.ConnectionFailed);
  assert.equal(seen.length, 1);
});

test("what would be wrong again is not tried again", async (context) => {
  await script({ status: 400 });
  const { url, seen } = await flaky(context, undefined, undefined, [500, {}, ""], [302, { Location: "/" }, ""]);
  const client = connect({ baseUrl: url });
  await assert.rejects(client.call("letter", "Hello", { model: "no-such" }), errors.ModelNotAllowed);
  await assert.rejects(client.call("letter", "Hello", { temperature: 9 }), (error) => {
    assert.ok(error instanceof errors.ValidationFailed);
    assert.equal(error.param, "temperature");
    assert.match(error.requestId, /^req_/);
    return true;
  });
  await assert.rejects(client.call("letter", "Hello"), errors.ServerError);
  await assert.rejects(client.call("letter", "Hello"), { code: "http_302" });
  assert.equal(seen.length, 4);
});

test("silence is a timeout, a whole one and one within a stream", async (context) => {
  const { url, seen } = await flaky(context, "hang", "hang", "hang", "stall the answer");
  const client = connect({ baseUrl: url, timeouts: { read: 200 }, retries: { count: 1 } });
  await assert.rejects(client.balance(), errors.TimedOut);
  assert.equal(seen.length, 2);
  await assert.rejects(client.call("letter", "Hello", { timeout: 300 }), errors.TimedOut);
  await script({ text: "one two three" });
  const patient = connect({ baseUrl: url, timeouts: { read: 1500 }, retries: { count: 0 } });
  const stream = patient.stream("letter", "Hello");
  await assert.rejects(gather(stream), errors.TimedOut);
  assert.ok(stream.callId, "it had begun");
});

test("an abort ends a wait for the next try, with its reason", async (context) => {
  const { url, seen } = await flaky(context, [503, { "Retry-After": "60" }, ""]);
  const controller = new AbortController();
  const answer = connect({ baseUrl: url }).balance({ signal: controller.signal });
  await until(() => seen.length === 1);
  setTimeout(() => controller.abort("enough"), 100);
  await assert.rejects(answer, (reason) => reason === "enough");
});

test("forty at once are forty calls, each charged, and nothing is left behind", async () => {
  await script();
  const before = await balance();
  const answers = await connect().job("crowd", async (job) => {
    const all = await Promise.all(Array.from({ length: 40 }, (_, page) => job.call(`Page ${page}`)));
    assert.equal(new Set(all.map((answer) => answer.call_id)).size, 40);
    return all;
  });
  const sum = answers.map((answer) => nano(answer.costs.credits)).reduce((one, other) => one + other);
  assert.equal(before - (await balance()), sum);
  assert.equal((await asked()).length, 40);
  assert.equal((await connect().balance()).held, 0);
});

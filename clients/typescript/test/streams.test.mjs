// Answers while they arrive.
import assert from "node:assert/strict";
import { test } from "node:test";
import { errors } from "saas-litellm-client";
import { asked, connect, flaky, gather, script, until } from "./support.mjs";

const client = connect();
const LONG = "one two three four five six seven eight nine ten";

test("a stream has its text as it comes, and usage and costs at its end", async () => {
  await script({ text: "Grüße aus 東京 😀" });
  const stream = client.stream("letter", "Hello");
  const texts = [];
  for await (const chunk of stream) {
    texts.push(chunk.text);
    assert.equal(stream.costs, undefined);
  }
  assert.ok(texts.length >= 4);
  assert.equal(texts.join(""), stream.text);
  assert.equal(stream.text.trim(), "Grüße aus 東京 😀");
  assert.equal(stream.usage.total_tokens, 120);
  assert.ok(stream.costs.credits > 0);
  assert.ok(stream.isComplete);
  assert.equal(stream.finishReason, "stop");
  assert.deepEqual(stream.message, { role: "assistant", content: stream.text });
  assert.equal((await client.showJob(stream.jobId)).status, "completed");
  await assert.rejects(gather(stream), TypeError);
});

test("leaving the loop stops the model", async () => {
  await script({ text: LONG, frame_delay: 0.2 });
  await client.job("letter", async (job) => {
    for await (const _ of job.stream("Hello")) break;
  });
  await until(async () => (await asked())[0].is_abandoned);
  assert.ok((await asked())[0].frames_sent < 10);
});

test("an abort in a stream stops the model and throws its reason", async () => {
  await script({ text: LONG, frame_delay: 0.2 });
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of client.stream("letter", "Hello", { signal: controller.signal })) {
      controller.abort("enough");
    }
  }, (reason) => reason === "enough");
  await until(async () => (await asked())[0].is_abandoned);
});

test("a job closes the streams that were begun in it and left", async () => {
  await script({ text: LONG, frame_delay: 0.3 });
  let stream;
  await client.job("letter", async (job) => {
    stream = await job.stream("Hello").open();
  });
  await until(async () => (await asked())[0].is_abandoned);
  await assert.rejects(gather(stream), errors.StreamCut);
});

test("a stream is tried again until it begins", async (context) => {
  await script();
  const { url, seen } = await flaky(context, "lose the request", [503, {}, ""], "lose the answer");
  const stream = connect({ baseUrl: url }).stream("letter", "Hello");
  assert.equal((await gather(stream)).length > 0, true);
  assert.equal(seen.length, 4);
  assert.equal(new Set(seen.map((one) => one.key)).size, 1);
  assert.equal((await asked()).length, 1);
});

test("a stream that is cut says so, and is not asked for again", async (context) => {
  await script({ text: LONG, frame_delay: 0.05 });
  const { url, seen } = await flaky(context, "cut the answer");
  const stream = connect({ baseUrl: url }).stream("letter", "Hello");
  await assert.rejects(gather(stream), errors.StreamCut);
  assert.equal(seen.length, 1);
  assert.equal(stream.isComplete, false);
  assert.ok(stream.text.startsWith("one"));
});

test("an error among the frames is thrown as its class", async () => {
  await script({ text: LONG, cut_after: 4 });
  const stream = client.stream("letter", "Hello");
  await assert.rejects(gather(stream), errors.ProviderError);
  assert.ok(stream.text.startsWith("one"));
});

test("a refusal comes before the first chunk", async () => {
  const stream = client.stream("letter", "Hello", { model: "no-such" });
  await assert.rejects(stream.open(), errors.ModelNotAllowed);
  await stream.close();
});

test("tools arrive in pieces and are whole at the end", async () => {
  await script({ tools: [{ name: "weather", input: { city: "Bern" } }, { name: "weather", input: { city: "Oslo" } }] });
  const tools = [{ type: "function", function: { name: "weather" } }];
  const stream = client.stream("letter", "Hello", { tools });
  const chunks = await gather(stream);
  assert.ok(chunks.some((chunk) => chunk.toolCalls.length));
  assert.deepEqual(stream.toolCalls.map((called) => called.arguments.city), ["Bern", "Oslo"]);
  assert.equal(stream.message.tool_calls.length, 2);
});

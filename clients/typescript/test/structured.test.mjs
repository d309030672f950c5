// Objects instead of words, and tools.
import assert from "node:assert/strict";
import { test } from "node:test";
import { errors, tool } from "saas-litellm-client";
import { z } from "zod";
import { asked, connect, gather, script } from "./support.mjs";

const client = connect();
const Review = z.object({ title: z.string(), risks: z.array(z.object({ clause: z.string() })) });
const GOOD = { title: "Lease", risks: [{ clause: "rent" }] };
const structured = (options = {}, schema = Review) =>
  client.job("review", (job) => job.structured(schema, "Review the lease.", options));

test("an object by its schema, which goes with the call", async () => {
  await script({ text: JSON.stringify(GOOD) });
  assert.deepEqual(await structured({ schemaName: "review", max_tokens: 200 }), GOOD);
  const [{ json }] = await asked();
  assert.equal(json.response_format.type, "json_schema");
  assert.equal(json.response_format.json_schema.name, "review");
  assert.equal(json.response_format.json_schema.schema.properties.title.type, "string");
  assert.equal(json.max_tokens, 200);
});

test("what does not fit is sent back with what is wrong, so often and no more", async () => {
  const wrong = JSON.stringify({ title: 7, risks: [] });
  await script({ text: "no JSON" }, { text: wrong }, { text: "```json\n" + JSON.stringify(GOOD) + "\n```" });
  assert.deepEqual(await structured(), GOOD);
  const [, second, third] = await asked();
  assert.match(second.json.messages[2].content, /- the answer: it is no JSON/);
  assert.deepEqual(third.json.messages[3], { role: "assistant", content: wrong });
  assert.match(third.json.messages[4].content, /- title: .*expected string/);
  await script({ text: wrong }, { text: wrong });
  await assert.rejects(structured({ repairs: 1 }), (error) => {
    assert.ok(error instanceof errors.NotStructured);
    assert.equal(error.text, wrong);
    assert.match(error.problems[0], /^title: /);
    return true;
  });
  assert.equal((await asked()).length, 2);
});

test("any object with parse will do, when its JSON schema is given", async () => {
  const own = {
    parse(value) {
      if (value?.ok !== true) throw new Error("ok is missing");
      return "fine";
    },
  };
  await script({ text: "{}" }, { text: '{"ok": true}' });
  assert.equal(await structured({ jsonSchema: { type: "object" } }, own), "fine");
  assert.match((await asked())[1].json.messages[2].content, /- the answer: ok is missing/);
  await assert.rejects(structured({}, own), /give `jsonSchema`/);
});

test("an object grows while it arrives, and is checked at its end", async () => {
  await script({ text: '{"title": "The lease", "risks": [{"clause": "the rent"}]}' });
  const [seen, result] = await client.job("review", async (job) => {
    const stream = job.streamStructured(Review, "Review the lease.");
    const found = await gather(stream);
    return [found, await stream.result()];
  });
  assert.ok(seen.length >= 3);
  assert.equal(seen[0].risks, undefined);
  assert.deepEqual(seen.at(-1), { title: "The lease", risks: [{ clause: "the rent" }] });
  assert.deepEqual(result, seen.at(-1));
});

test("a streamed object that does not fit is repaired by a call that is not streamed", async () => {
  await script({ text: '{"title": 7}' }, { text: JSON.stringify(GOOD) });
  const result = await client.job("review", (job) => job.streamStructured(Review, "Review it.").result());
  assert.deepEqual(result, GOOD);
  assert.deepEqual((await asked()).map((one) => one.json.stream ?? false), [true, false]);
});

test("tools are made of schemas, and their arguments parsed by them", async () => {
  const Weather = z.object({ city: z.string() }).describe("The weather of a city.");
  const weather = tool("weather", Weather);
  assert.equal(weather.function.description, "The weather of a city.");
  assert.equal(weather.function.parameters.properties.city.type, "string");
  await script({ tool: { name: "weather", input: { city: "Bern" } }, finish_reason: "tool_calls" }, { text: "Sunny" });
  const text = await client.job("assistant", async (job) => {
    const talk = [{ role: "user", content: "Do I need an umbrella in Bern?" }];
    const answer = await job.call(talk, { tools: [weather], tool_choice: "required" });
    const [called] = answer.toolCalls;
    assert.equal(called.name, "weather");
    assert.deepEqual(called.parse(Weather), { city: "Bern" });
    assert.throws(() => called.parse(z.object({ town: z.string() })), z.ZodError);
    talk.push(answer.message, called.result("Sunny."));
    return (await job.call(talk)).text;
  });
  assert.equal(text, "Sunny");
  const [, second] = await asked();
  assert.equal(second.json.messages[2].content, "Sunny.");
  assert.equal(second.json.messages[1].tool_calls[0].id, second.json.messages[2].tool_call_id);
});

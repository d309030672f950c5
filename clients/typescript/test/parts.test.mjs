// The parts that need no server.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { ApiError, Client, errors, nano, VERSION } from "saas-litellm-client";
import { partial } from "../dist/esm/partial.js";
import { ofAnswer } from "../dist/esm/refusals.js";

test("an object is read as far as it has come, at every length", () => {
  const whole = { a: "x\n\"é😀", b: [1, -2.5e3, true, null], c: { d: {}, e: [] }, f: false };
  for (const text of [JSON.stringify(whole), JSON.stringify(whole, null, 2)]) {
    for (let length = 1; length < text.length; length += 1) {
      const found = partial(text.slice(0, length));
      for (const name of Object.keys(found ?? {})) assert.ok(name in whole, name);
      if (typeof found?.a === "string") assert.ok(whole.a.startsWith(found.a), found.a);
    }
    assert.deepEqual(partial(text), whole);
  }
});

test("what is half said is not said", () => {
  const cases = [
    ["", undefined], ["no", undefined], ["[1]", undefined], ["{", {}], ['{"a', {}], ['{"a":', {}],
    ['{"a": 1', {}], ['{"a": 1,', { a: 1 }], ['{"a": tr', {}], ['{"a": "b', { a: "b" }],
    ['{"a": "b\\', { a: "b" }], ['{"a": "\\ud83d', { a: "" }], ['{"a": "\\u00', { a: "" }],
    ['{"a": ["b", "c', { a: ["b", "c"] }], ['{"a": [[1, 2', { a: [[1]] }], ["```json\n{", {}],
    ['```json\n{"a": "b"}\n```', { a: "b" }], ["```js", undefined], ['{"a": x}', {}],
  ];
  for (const [text, expected] of cases) assert.deepEqual(partial(text), expected, text);
  assert.equal(Object.getPrototypeOf(partial('{"__proto__": {"a": 1}}')), Object.prototype);
});

test("amounts are added up exactly", () => {
  assert.equal(nano(0.1) + nano(0.2), nano(0.3));
  assert.equal(nano(999999.123456789), 999999123456789n);
  assert.deepEqual([nano(-0.000000001), nano(0), nano(1e9)], [-1n, 0n, 10n ** 18n]);
  assert.throws(() => nano(NaN), RangeError);
});

test("each code has one class, and each class of a code is found by it", () => {
  const classes = Object.values(errors).filter((kind) => kind.prototype instanceof ApiError);
  const ofACode = classes.filter((kind) => Object.hasOwn(kind, "code"));
  assert.deepEqual(new Set(ofACode), new Set(errors.BY_CODE.values()));
  assert.equal(errors.BY_CODE.size, ofACode.length);
});

test("an error keeps what it says, and is of its status' family when its code is new", () => {
  const said = { message: "No.", type: "x", param: "model", request_id: "req_1", credits_needed: 0.5 };
  const error = ofAnswer(402, new Headers({ "Retry-After": "7" }), { error: { ...said, code: "budget_exceeded" } });
  assert.ok(error instanceof errors.BudgetExceeded && error instanceof errors.PaymentRequired);
  assert.equal(error.message, "No. (budget_exceeded, req_1)");
  assert.equal(error.name, "BudgetExceeded");
  assert.deepEqual(
    [error.serverMessage, error.param, error.requestId, error.retryAfter, error.creditsNeeded, error.creditsAvailable],
    ["No.", "model", "req_1", 7, 0.5, undefined],
  );
  const families = [
    [400, errors.InvalidRequest], [401, errors.Unauthenticated], [402, errors.PaymentRequired],
    [403, errors.Forbidden], [404, errors.NotFound], [409, errors.Conflict], [418, errors.InvalidRequest],
    [429, errors.RateLimited], [500, errors.ServerError], [503, errors.Unavailable],
  ];
  for (const [status, family] of families) {
    const found = ofAnswer(status, new Headers(), { error: { message: "No.", code: "quite_new" } });
    assert.equal(found.constructor, family);
    assert.equal(found.code, "quite_new");
  }
});

test("a client says what it lacks", () => {
  const team = { teamId: "alice" };
  assert.throws(() => new Client({ ...team, baseUrl: "llm.example.com" }), TypeError);
  assert.throws(() => new Client({ ...team, baseUrl: "ftp://llm.example.com" }), TypeError);
  const { SAAS_TEAM_ID } = process.env;
  delete process.env.SAAS_TEAM_ID;
  assert.throws(() => new Client(), /Say which team/);
  process.env.SAAS_TEAM_ID = SAAS_TEAM_ID;
});

test("a key in a browser is refused", () => {
  Object.assign(globalThis, { window: {}, document: {} });
  try {
    assert.throws(() => new Client({ apiKey: "slk_x", teamId: "alice", baseUrl: "http://a" }), /everybody's/);
  } finally {
    delete globalThis.window;
    delete globalThis.document;
  }
});

test("an answer that is not the server's is said to be none", async () => {
  const fetch = async () => new Response("<html>", { status: 200 });
  const client = new Client({ teamId: "alice", fetch });
  await assert.rejects(client.balance(), errors.UnexpectedAnswer);
});

test("CommonJS has the same, and the version is the package's", async () => {
  const required = createRequire(import.meta.url)("saas-litellm-client");
  const imported = await import("saas-litellm-client");
  assert.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort());
  assert.equal(createRequire(import.meta.url)("../package.json").version, VERSION);
});

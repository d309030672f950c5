// What every test here shares: a client of Alice's team, the platform's model on strings, and a
// proxy that loses what it is told to lose.
import { createServer, request } from "node:http";
import { Client } from "saas-litellm-client";

export const { SAAS_BASE_URL, SAAS_API_KEY, SAAS_TEAM_ID, PROVIDER_URL } = process.env;

/** A client that does not wait long. */
export const connect = (options = {}) =>
  new Client({ ...options, retries: { firstWait: 20, ...options.retries } });

/** What the model answers next, one reply a request: fields of tests/providers/server.py's Reply. */
export const script = async (...replies) => {
  const body = JSON.stringify(replies);
  await fetch(`${PROVIDER_URL}/script`, { method: "POST", body });
};

/** The requests that reached the model since the last `script`: {json, frames_sent, is_abandoned}. */
export const asked = async () => (await fetch(`${PROVIDER_URL}/seen`)).json();

export const until = async (condition) => {
  for (const deadline = Date.now() + 10_000; !(await condition()); ) {
    if (Date.now() > deadline) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

export const gather = async (iterable) => {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
};

/**
 * A proxy before the platform; each request uses up one deed, then all goes well. "lose the request",
 * "lose the answer", "cut the answer" or "stall the answer" (after its first bytes), "hang", or
 * [status, headers, body].
 */
export const flaky = async (test, ...deeds) => {
  const seen = [];
  const server = createServer(async (asking, answering) => {
    const body = Buffer.concat(await gather(asking));
    seen.push({ path: asking.url, key: asking.headers["idempotency-key"] });
    const deed = deeds.shift();
    if (Array.isArray(deed)) return answering.writeHead(deed[0], deed[1]).end(deed[2]);
    if (deed === "hang") return;
    if (deed === "lose the request") return asking.socket.destroy();
    const { method, headers } = asking;
    const lose = () => asking.socket.destroy();
    const onward = request(SAAS_BASE_URL + asking.url, { method, headers }, async (answer) => {
      answer.on("error", lose);
      if (deed === "lose the answer") {
        await gather(answer);
        return lose();
      }
      answering.writeHead(answer.statusCode, answer.headers);
      if (deed === "cut the answer") answer.once("data", () => setTimeout(lose, 50));
      if (deed === "stall the answer") {
        return answer.once("data", (bytes) => answer.pause() && answering.write(bytes));
      }
      answer.pipe(answering, { end: deed !== "cut the answer" });
    });
    onward.on("error", lose);
    answering.on("close", () => onward.destroy());
    onward.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, seen };
};

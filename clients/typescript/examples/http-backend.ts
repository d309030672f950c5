/**
 * An HTTP back end that streams answers to the browser as server-sent events.
 *
 *     SAAS_BASE_URL=... SAAS_API_KEY=... SAAS_TEAM_ID=acme-corp PORT=8080 node http-backend.js
 *
 * The page posts its question to /answers with fetch() and reads the body as it comes; an EventSource
 * would ask, and pay, again whenever its connection is lost.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Client, ClientError, errors } from "saas-litellm-client";

const client = new Client();

const PAGE = `<!doctype html>
<html lang="en">
  <title>Ask</title>
  <link rel="icon" href="data:,">
  <h1>Ask</h1>
  <form><label>Question <input name="question" required></label> <button>Ask</button></form>
  <p id="answer" aria-live="polite"></p>
  <p id="end"></p>
  <script type="module">
    const show = (id, text) => (document.getElementById(id).textContent += text);
    document.querySelector("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const question = new FormData(event.target).get("question");
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify({ question });
      const response = await fetch("/answers", { method: "POST", headers, body });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
        const events = (rest + value).split("\\n\\n");
        rest = events.pop();
        for (const event of events) {
          const told = JSON.parse(event.slice("data: ".length));
          if (told.text !== undefined) show("answer", told.text);
          if (told.credits !== undefined) show("end", told.credits + " credits");
          if (told.failed !== undefined) show("end", told.failed);
        }
      }
    });
  </script>
</html>`;

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const question = await questionOf(request);
  response.writeHead(200, {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
  });
  const tell = (event: object): void => void response.write(`data: ${JSON.stringify(event)}\n\n`);
  // A browser that leaves cancels the job, which stops the model.
  const left = new AbortController();
  response.on("close", () => left.abort());
  try {
    const bill = await client.job("browser_answer", { signal: left.signal }, async (job) => {
      for await (const chunk of job.stream(question, { max_tokens: 500 })) tell({ text: chunk.text });
      return job.complete();
    });
    tell({ credits: bill.costs.credits_charged });
  } catch (error) {
    if (left.signal.aborted) return;
    if (!(error instanceof ClientError)) throw error;
    const isBroke = error instanceof errors.PaymentRequired;
    tell({ failed: isBroke ? "Your credits are used up." : "That did not work. Please try again." });
  } finally {
    response.end();
  }
}

/** Throws SyntaxError or TypeError for what is no question. */
async function questionOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const bytes of request.setEncoding("utf8")) {
    body += String(bytes);
    if (body.length > 20_000) throw new TypeError("too long");
  }
  const { question } = JSON.parse(body) as { question?: unknown };
  if (typeof question !== "string" || !question) throw new TypeError("no question");
  return question;
}

const server = createServer((request, response) => {
  if (request.method === "POST" && request.url === "/answers") {
    answer(request, response).catch((error: unknown) => {
      const isTheirs = error instanceof SyntaxError || error instanceof TypeError;
      if (!response.headersSent) response.writeHead(isTheirs ? 400 : 500);
      response.end();
    });
  } else if (request.method === "GET" && request.url === "/") {
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(PAGE);
  } else {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.env["PORT"] ?? 8080), "127.0.0.1", () => {
  const address = server.address();
  console.log(`http://127.0.0.1:${typeof address === "object" ? address?.port : address}/`);
});

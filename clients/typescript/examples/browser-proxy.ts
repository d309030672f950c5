/**
 * The client in a browser, behind a proxy of one's own: the page knows no key, the proxy adds it.
 *
 *     SAAS_BASE_URL=... SAAS_API_KEY=... PORT=8080 node browser-proxy.js path/to/dist/esm
 *
 * Whoever reaches the proxy spends the team's credits: sign your visitors in first, and let through
 * no more than the page needs. Here that is one path, from the page's own origin.
 */
import { readFile } from "node:fs/promises";
import { createServer, request as ask, type IncomingMessage, type ServerResponse } from "node:http";
import { basename, join, resolve } from "node:path";

const { SAAS_BASE_URL = "http://localhost:8003", SAAS_API_KEY = "", PORT = "8080" } = process.env;
const MODULES = resolve(process.argv[2] ?? "dist/esm");
const ALLOWED = new Set(["/api/jobs/create-and-call-stream"]);

const PAGE = `<!doctype html>
<html lang="en">
  <title>Ask</title>
  <link rel="icon" href="data:,">
  <h1>Ask</h1>
  <button>Ask</button>
  <p id="answer" aria-live="polite"></p>
  <p id="end"></p>
  <script type="module">
    import { Client } from "/client/index.js";

    const client = new Client({ baseUrl: "/llm", teamId: document.body.dataset.team ?? "acme-corp" });
    const show = (id, text) => (document.getElementById(id).textContent += text);
    document.querySelector("button").addEventListener("click", async () => {
      const stream = client.stream("browser_answer", "Hello", { max_tokens: 200 });
      for await (const chunk of stream) show("answer", chunk.text);
      show("end", stream.usage.total_tokens + " tokens");
    });
  </script>
</html>`;

function forward(path: string, request: IncomingMessage, response: ServerResponse): void {
  const isOwn = request.headers["sec-fetch-site"] === "same-origin";
  if (request.method !== "POST" || !ALLOWED.has(path) || !isOwn) {
    response.writeHead(403).end();
    return;
  }
  const onward = ask(SAAS_BASE_URL + path, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": request.headers["idempotency-key"] ?? "",
      Authorization: `Bearer ${SAAS_API_KEY}`,
    },
  });
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.on("error", () => response.destroy());
    answer.pipe(response);
  });
  onward.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  // A page that leaves stops the model.
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? "/", "http://proxy");
  if (pathname.startsWith("/llm/")) {
    forward(pathname.slice("/llm".length), request, response);
  } else if (/^\/client\/\w+\.js$/.test(pathname)) {
    readFile(join(MODULES, basename(pathname))).then(
      (code) => response.writeHead(200, { "Content-Type": "text/javascript" }).end(code),
      () => response.writeHead(404).end(),
    );
  } else {
    const team = JSON.stringify(process.env["SAAS_TEAM_ID"] ?? "acme-corp");
    response.writeHead(pathname === "/" ? 200 : 404, { "Content-Type": "text/html; charset=utf-8" });
    response.end(pathname === "/" ? PAGE.replace("<h1>", `<body data-team=${team}><h1>`) : "");
  }
});
server.listen(Number(PORT), "127.0.0.1", () => {
  const address = server.address();
  console.log(`http://127.0.0.1:${typeof address === "object" ? address?.port : address}/`);
});

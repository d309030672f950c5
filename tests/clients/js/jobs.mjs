// A job around several calls by the X-Job-Id header; one stream in it is left early.
import { client, HELLO, say } from "./say.mjs";

const openai = client({ defaultHeaders: { "X-Job-Id": process.env.JOB } });
const told = await openai.chat.completions
  .create({ model: "chat", messages: HELLO })
  .asResponse();
say({ job: told.headers.get("x-job-id"), call: told.headers.get("x-call-id") });

const stream = await openai.chat.completions.create({
  model: "chat",
  messages: HELLO,
  stream: true,
});
let words = 0;
for await (const chunk of stream) {
  words += chunk.choices[0]?.delta.content ? 1 : 0;
  if (words === 2) stream.controller.abort();
}
say({ words, isAborted: stream.controller.signal.aborted });

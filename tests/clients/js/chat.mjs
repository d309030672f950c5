// Plain, streamed, structured, with a picture: one chat completion after another.
import { client, HELLO, say } from "./say.mjs";

const openai = client();

const { data, response } = await openai.chat.completions
  .create({ model: "chat", messages: HELLO, metadata: { ticket: "42" } })
  .withResponse();
say({
  text: data.choices[0].message.content,
  model: data.model,
  total: data.usage.total_tokens,
  charged: response.headers.get("x-credits-charged"),
  job: response.headers.get("x-job-id"),
});

const stream = await openai.chat.completions.create({
  model: "chat",
  messages: HELLO,
  stream: true,
  stream_options: { include_usage: true },
});
const streamed = { text: "", models: [], totals: [] };
for await (const chunk of stream) {
  streamed.text += chunk.choices[0]?.delta.content ?? "";
  streamed.models.push(chunk.model);
  if (chunk.usage) streamed.totals.push(chunk.usage.total_tokens);
}
say({ ...streamed, models: [...new Set(streamed.models)] });

const final = await openai.chat.completions.stream({ model: "chat", messages: HELLO }).finalContent();
say({ final });

const picture = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
const seen = await openai.chat.completions.create({
  model: "chat",
  messages: [{ role: "user", content: [{ type: "text", text: "fine?" }, picture] }],
  response_format: {
    type: "json_schema",
    json_schema: {
      name: "verdict",
      strict: true,
      schema: {
        type: "object",
        properties: { isFine: { type: "boolean" } },
        required: ["isFine"],
        additionalProperties: false,
      },
    },
  },
});
say(JSON.parse(seen.choices[0].message.content));

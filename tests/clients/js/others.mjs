// Models, embeddings (the client asks for base64 and unpacks it) and the Responses API.
import { client, say } from "./say.mjs";

const openai = client();
const names = [];
for await (const model of openai.models.list()) names.push(model.id);
say({ names, owner: (await openai.models.retrieve("chat")).owned_by });

const input = ["one text", "another"];
const packed = await openai.embeddings.create({ model: "embed", input });
const plain = await openai.embeddings.create({ model: "embed", input, encoding_format: "float" });
say({
  packed: packed.data.map((row) => row.embedding),
  plain: plain.data.map((row) => row.embedding),
  model: packed.model,
});

const answer = await openai.responses.create({ model: "chat", input: "Hello", instructions: "Be kind." });
say({ text: answer.output_text, status: answer.status, total: answer.usage.total_tokens });

const stream = openai.responses.stream({ model: "chat", input: "Hello" });
const kinds = [];
stream.on("event", (event) => kinds.push(event.type));
const final = await stream.finalResponse();
say({ text: final.output_text.trim(), first: kinds[0], last: kinds.at(-1) });

// Two tools called in parallel, their results sent back; then the client's own tool loop.
import { client, HELLO, say, WEATHER } from "./say.mjs";

const openai = client();
const asked = { model: "chat", tools: [WEATHER], parallel_tool_calls: true };

const first = await openai.chat.completions.create({ ...asked, messages: HELLO });
const { message, finish_reason } = first.choices[0];
say({
  finish: finish_reason,
  cities: message.tool_calls.map((call) => JSON.parse(call.function.arguments).city),
  ids: message.tool_calls.map((call) => call.id),
});
const results = message.tool_calls.map((call) => ({
  role: "tool",
  tool_call_id: call.id,
  content: "sunny",
}));
const second = await openai.chat.completions.create({
  ...asked,
  messages: [...HELLO, message, ...results],
});
say({ text: second.choices[0].message.content });

const cities = [];
const weather = ({ city }) => (cities.push(city), "sunny");
const runner = openai.chat.completions.runTools({
  model: "chat",
  messages: HELLO,
  stream: true,
  tools: [{ type: "function", function: { ...WEATHER.function, function: weather, parse: JSON.parse } }],
});
say({ text: (await runner.finalContent()).trim(), cities });

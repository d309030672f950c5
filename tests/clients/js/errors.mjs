// One line an error, in the order of its name; STRANGER is another team's job.
import { APIConnectionTimeoutError } from "openai";
import { client, failure, HELLO, say } from "./say.mjs";

const openai = client();
const ask = (more = {}, options = {}) =>
  openai.chat.completions.create({ model: "chat", messages: HELLO, ...more }, options);

say(await failure(() => client({ apiKey: "slk_nobody" }).models.list()));
say(await failure(() => ask({ model: "gpt-4o" })));
say(await failure(() => ask({}, { headers: { "X-Job-Id": process.env.STRANGER } })));
say(await failure(() => ask({ store: true })));
say(await failure(() => openai.models.retrieve("no-such-model")));
// The provider fails, then answers too late for the client; the last call is over the limit.
say(await failure(() => ask()));
const late = await failure(() => ask({}, { timeout: 300 }));
say({ ...late, isTimeout: late.kind === APIConnectionTimeoutError.name });
say(await failure(() => ask()));

// The npm package `openai`, unchanged: what it makes of the hub's answers, as JSON lines.
import OpenAI from "openai";

const [, , baseURL, model, embeddingModel] = process.argv;
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const say = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));
const messages = [{ role: "user", content: "one two" }];

const whole = await client.chat.completions.create({ model, messages });
say("whole", { content: whole.choices[0].message.content, finish: whole.choices[0].finish_reason, usage: whole.usage });

const stream = await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
let text = "";
let usage = null;
let finish = null;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  finish = chunk.choices[0]?.finish_reason ?? finish;
  usage = chunk.usage ?? usage;
}
say("stream", { content: text, finish, usage });

const helper = client.chat.completions.stream({ model, messages });
say("helper", { content: (await helper.finalChatCompletion()).choices[0].message.content });

async function refused(what, call) {
  try {
    await call();
    say(what, { status: null });
  } catch (error) {
    say(what, { status: error.status ?? null, code: error.code ?? null, param: error.param ?? null, kind: error.constructor.name });
  }
}

await refused("unknown", () => client.chat.completions.create({ model: "no-such-model", messages }));
await refused("n", () => client.chat.completions.create({ model, messages, n: 2 }));
await refused("inside", async () => {
  const broken = await client.chat.completions.create({ model: "chat.breaks", messages, stream: true });
  for await (const _ of broken);
});

const ids = [];
for await (const each of client.models.list()) ids.push(each.id);
say("models", { ids });

const embedded = await client.embeddings.create({ model: embeddingModel, input: ["abc", "def"] });
say("embeddings", { lengths: embedded.data.map((each) => each.embedding.length), first: embedded.data[0].embedding[0] });

// The official Node client against a gateway: node chat.mjs BASE_URL KEY prints what it was told as JSON.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "[[say=Hello from Node 👋]]" }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const whole = await client.chat.completions.create({ model: "default/plain", messages });

const pieces = [];
const finishReasons = [];
let usage = null;
const stream = await client.chat.completions.create({
  model: "default/plain",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  for (const choice of chunk.choices) {
    pieces.push(choice.delta.content ?? "");
    if (choice.finish_reason) finishReasons.push(choice.finish_reason);
  }
}

const refused = async (options, parameters) => {
  try {
    await client.withOptions(options).chat.completions.create({ model: "default/plain", messages, ...parameters });
    return null;
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.code ?? null, error.param ?? null];
  }
};
const errors = {
  key: await refused({ apiKey: "agw_wrong" }, {}),
  n: await refused({}, { n: 2 }),
  model: await refused({}, { model: "default/plane" }),
  limit: await refused({}, { model: "faulty/rate-limited" }),
};
let cut = null;
try {
  const broken = await client.chat.completions.create({ model: "faulty/cut", messages, stream: true });
  for await (const chunk of broken) void chunk;
} catch (error) {
  cut = [error.constructor.name, error.code ?? null];
}

console.log(
  JSON.stringify({
    models,
    whole: { content: whole.choices[0].message.content, finish: whole.choices[0].finish_reason, usage: whole.usage.total_tokens },
    streamed: { content: pieces.join(""), finish: finishReasons, usage: usage.total_tokens },
    errors,
    cut,
  }),
);

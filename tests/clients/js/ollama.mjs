// The `ollama` package: one function per feature.
import { Ollama } from "ollama";
import { all, refused } from "./reading.mjs";

export const connect = (url, key, headers = {}) =>
  new Ollama({ host: url, headers: { Authorization: `Bearer ${key}`, ...headers } });

export const chat = (client, { hello }) => client.chat({ model: "fake:words=3", messages: hello });

export const stream = async (client, { hello }) =>
  all(await client.chat({ model: "fake:words=16", messages: hello, stream: true }));

export const limit = (client, { hello }) =>
  client.chat({ model: "fake:words=16", messages: hello, options: { num_predict: 2 } });

export async function tools(client, { hello, tool }) {
  const first = await client.chat({ model: "fake:tools", messages: hello, tools: [tool] });
  const result = { role: "tool", tool_name: "weather", content: "sunny" };
  await client.chat({ model: "fake:words=3", messages: [...hello, first.message, result] });
  return first;
}

export const schema = (client, { hello, schema: wished }) =>
  client.chat({ model: "fake:words=3", messages: hello, format: wished });

export const logprobs = (client, { hello }) => client.chat({ model: "fake:words=3", messages: hello, logprobs: true });

export const images = (client, { pixel }) =>
  client.chat({ model: "fake:sees", messages: [{ role: "user", content: "hello there", images: [pixel] }] });

export const thinking = (client, { hello }) => client.chat({ model: "fake:thinks", messages: hello, think: true });

export const embeddings = (client) => client.embed({ model: "fake:embeds", input: ["one", "two"] });

export const models = async (client) => ({
  listed: (await client.list()).models.map((model) => model.name),
  found: await client.show({ model: "fake:words=3" }),
  running: (await client.ps()).models.map((model) => model.name),
});

export const errors = async (client, { hello }, { url }) => ({
  missing: await refused(client.chat({ model: "nothing", messages: hello })),
  nobody: await refused(connect(url, "gfe_live_nobody").chat({ model: "fake:words=3", messages: hello })),
  broken: await refused(client.chat({ model: "fake:cut@2", messages: hello, stream: true }).then(all)),
});

export async function cancel(client, { hello }) {
  const pieces = await client.chat({ model: "fake:drip=0.1", messages: hello, stream: true });
  for await (const piece of pieces) {
    pieces.abort();
    return piece;
  }
}

// Headers are the client's, not a request's: who wants to repeat makes a client for it.
export async function repeat(client, { hello, repeat: name }, { url, key }) {
  const named = connect(url, key, { "Idempotency-Key": name });
  const once = async () => all(await named.chat({ model: "fake:words=3", messages: hello, stream: true }));
  return [await once(), await once()];
}

// The `@anthropic-ai/sdk` package: one function per feature.
import Anthropic from "@anthropic-ai/sdk";
import { all, refused } from "./reading.mjs";

export const connect = (url, key) => new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });

const ask = (client, body, options) => client.messages.create({ max_tokens: 100, ...body }, options);
const function_ = ({ function: { name, parameters } }) => ({ name, description: "", input_schema: parameters });

export const chat = (client, { hello }) =>
  ask(client, { model: "fake:words=3", messages: hello, system: "be short" });

export async function stream(client, { hello }) {
  const pieces = [];
  const reading = client.messages.stream({ model: "fake:words=16", max_tokens: 100, messages: hello });
  reading.on("text", (text) => pieces.push(text));
  return { pieces, final: await reading.finalMessage() };
}

export const limit = (client, { hello }) => ask(client, { model: "fake:words=16", max_tokens: 2, messages: hello });

export async function tools(client, { hello, tool }) {
  const first = await ask(client, { model: "fake:tools", messages: hello, tools: [function_(tool)] });
  const result = { type: "tool_result", tool_use_id: first.content[0].id, content: "sunny" };
  const turn = [...hello, { role: "assistant", content: first.content }, { role: "user", content: [result] }];
  await ask(client, { model: "fake:words=3", messages: turn });
  return first;
}

export async function toolsAsAStream(client, { hello, tool }) {
  const body = { model: "fake:tools", max_tokens: 100, messages: hello, tools: [function_(tool)] };
  return client.messages.stream(body).finalMessage();
}

export async function forced(client, { hello, other, tool }) {
  const asked = { model: "fake:words=3", max_tokens: 100, messages: hello, tools: [function_(other), function_(tool)] };
  const named = { type: "tool", name: "weather" };
  return [
    await ask(client, { ...asked, tool_choice: named }),
    await ask(client, { ...asked, tool_choice: { type: "any" } }),
    await client.messages.stream({ ...asked, tool_choice: named }).finalMessage(),
    await client.messages.stream({ ...asked, tool_choice: { type: "any" } }).finalMessage(),
  ];
}

export const schema = (client, { hello, schema: wished }) =>
  ask(client, { model: "fake:words=3", messages: hello, output_config: { format: { type: "json_schema", schema: wished } } });

export const images = (client, { pixel }) => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: pixel } };
  return ask(client, { model: "fake:sees", messages: [{ role: "user", content: [image, { type: "text", text: "hello there" }] }] });
};

export const thinking = (client, { hello }) =>
  ask(client, { model: "fake:thinks", max_tokens: 2000, messages: hello, thinking: { type: "enabled", budget_tokens: 1024 } });

export const models = async (client) => ({
  listed: (await all(client.models.list())).map((model) => model.id),
  found: (await client.models.retrieve("fake:words=3")).display_name,
});

export const errors = async (client, { hello }) => ({
  missing: await refused(ask(client, { model: "nothing", messages: hello })),
  wrong: await refused(ask(client, { model: "fake:words=3", messages: [] })),
  nobody: await refused(ask(client.withOptions({ apiKey: "gfe_live_nobody" }), { model: "fake:words=3", messages: hello })),
  failed: await refused(ask(client, { model: "fake:500", messages: hello })),
  broken: await refused(client.messages.stream({ model: "fake:cut@2", max_tokens: 100, messages: hello }).finalMessage()),
});

export async function cancel(client, { hello }) {
  for await (const event of await ask(client, { model: "fake:drip=0.1", messages: hello, stream: true }))
    if (event.type === "content_block_delta") return event;
}

export async function repeat(client, { hello, repeat: key }) {
  const once = async () => {
    const options = { headers: { "Idempotency-Key": key } };
    const { data, response } = await ask(client, { model: "fake:words=3", messages: hello }, options).withResponse();
    return { text: data.content[0].text, job: response.headers.get("x-gfe-job") };
  };
  return [await once(), await once()];
}

// The `openai` package: one function per feature.
import OpenAI from "openai";
import { all, refused } from "./reading.mjs";

export const connect = (url, key) => new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });

const ask = (client, body, options) => client.chat.completions.create(body, options);

export const chat = (client, { hello }) => ask(client, { model: "fake:words=3", messages: hello });

export const stream = async (client, { hello }) =>
  all(await ask(client, { model: "fake:words=16", messages: hello, stream: true, stream_options: { include_usage: true } }));

export const limit = async (client, { hello }) => [
  await ask(client, { model: "fake:words=16", messages: hello, max_tokens: 2 }),
  await ask(client, { model: "fake:words=16", messages: hello, max_completion_tokens: 2 }),
];

export async function tools(client, { hello, tool }) {
  const first = await ask(client, { model: "fake:tools", messages: hello, tools: [tool] });
  const { message } = first.choices[0];
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
  await ask(client, { model: "fake:words=3", messages: [...hello, message, result] });
  return first;
}

export async function toolsAsAStream(client, { hello, tool }) {
  const runner = client.chat.completions.stream({ model: "fake:tools", messages: hello, tools: [tool] });
  return runner.finalChatCompletion();
}

export async function forced(client, { hello, other, tool }) {
  const asked = { model: "fake:words=3", messages: hello, tools: [other, tool] };
  const named = { type: "function", function: { name: "weather" } };
  return [
    await ask(client, { ...asked, tool_choice: named }),
    await ask(client, { ...asked, tool_choice: "required" }),
    await client.chat.completions.stream({ ...asked, tool_choice: named }).finalChatCompletion(),
    await client.chat.completions.stream({ ...asked, tool_choice: "required" }).finalChatCompletion(),
  ];
}

export const schema = (client, { hello, schema: wished }) =>
  ask(client, {
    model: "fake:words=3",
    messages: hello,
    response_format: { type: "json_schema", json_schema: { name: "answer", schema: wished } },
  });

export const logprobs = (client, { hello }) =>
  ask(client, { model: "fake:words=3", messages: hello, logprobs: true, top_logprobs: 2 });

export const images = (client, { pixel }) =>
  ask(client, {
    model: "fake:sees",
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "hello there" },
          { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}` } },
        ],
      },
    ],
  });

export const thinking = (client, { hello }) =>
  ask(client, { model: "fake:thinks", messages: hello, reasoning_effort: "low" });

export const embeddings = async (client) => [
  await client.embeddings.create({ model: "fake:embeds", input: ["one", "two"] }), // asks for base64 by itself
  await client.embeddings.create({ model: "fake:embeds", input: "one", encoding_format: "float" }),
];

export const models = async (client) => ({
  listed: (await all(client.models.list())).map((model) => model.id),
  found: (await client.models.retrieve("fake:words=3")).id,
});

export const errors = async (client, { hello }) => ({
  missing: await refused(ask(client, { model: "nothing", messages: hello })),
  wrong: await refused(ask(client, { model: "fake:words=3", messages: [] })),
  nobody: await refused(ask(client.withOptions({ apiKey: "gfe_live_nobody" }), { model: "fake:words=3", messages: hello })),
  failed: await refused(ask(client, { model: "fake:500", messages: hello })),
  broken: await refused(ask(client, { model: "fake:cut@2", messages: hello, stream: true }).then(all)),
});

export async function cancel(client, { hello }) {
  for await (const chunk of await ask(client, { model: "fake:drip=0.1", messages: hello, stream: true })) return chunk;
}

export async function repeat(client, { hello, repeat: key }) {
  const once = async () => {
    const options = { headers: { "Idempotency-Key": key } };
    const { data, response } = await ask(client, { model: "fake:words=3", messages: hello }, options).withResponse();
    return { text: data.choices[0].message.content, job: response.headers.get("x-gfe-job") };
  };
  return [await once(), await once()];
}

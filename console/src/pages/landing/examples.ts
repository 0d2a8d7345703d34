/** The same request in three languages, at the address of this very installation. */

export interface Examples {
  curl: string;
  python: string;
  javascript: string;
}

export function examples(apiUrl: string, model: string): Examples {
  return {
    curl: `curl ${apiUrl}/v1/chat/completions \\
  -H "Authorization: Bearer $GFE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "${model}",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}]
  }'`,
    python: `from openai import OpenAI

client = OpenAI(base_url="${apiUrl}/v1")  # key: OPENAI_API_KEY
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Why is the sky blue?"}],
)
print(answer.choices[0].message.content)`,
    javascript: `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${apiUrl}/v1" });
const answer = await client.chat.completions.create({
  model: "${model}",
  messages: [{ role: "user", content: "Why is the sky blue?" }],
});
console.log(answer.choices[0].message.content);`,
  };
}

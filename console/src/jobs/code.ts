import type { JobAsked } from "./request.ts";

/** The request of the playground in three languages, ready to be pasted. Pure. */

export const LANGUAGES = ["curl", "Python", "JavaScript"] as const;
export type Language = (typeof LANGUAGES)[number];

/** OpenAI's API, which most tools speak; who wants one provider's machine asks the jobs API, which knows providers. */
export function inCode(language: Language, apiUrl: string, asked: JobAsked): string {
  return asked.provider === undefined ? CHAT[language](apiUrl, chatOf(asked)) : JOB[language](apiUrl, { ...asked });
}

type Body = Record<string, unknown>;

function chatOf({ prompt, system, model, max_tokens, options }: JobAsked): Body {
  const messages = [...(system === undefined ? [] : [{ role: "system", content: system }]), { role: "user", content: prompt }];
  return { ...(model === undefined ? {} : { model }), messages, ...(max_tokens === undefined ? {} : { max_tokens }), ...options };
}

/** JSON that a shell takes literally, between single quotes. */
function quoted(body: Body): string {
  return `'${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`;
}

/** Indented by two more spaces, but for the first line. */
function within(text: string, spaces: string): string {
  return text.replaceAll("\n", `\n${spaces}`);
}

function json(value: unknown, spaces: string): string {
  return within(JSON.stringify(value, null, spaces), spaces);
}

const HEAD = '-H "Authorization: Bearer $GFE_API_KEY"';

const CHAT: Record<Language, (apiUrl: string, body: Body) => string> = {
  curl: (apiUrl, body) => `curl -N ${apiUrl}/v1/chat/completions \\
  ${HEAD} \\
  -H "Content-Type: application/json" \\
  -d ${quoted({ ...body, stream: true })}`,
  Python: (apiUrl, body) => `import os

from openai import OpenAI

client = OpenAI(base_url="${apiUrl}/v1", api_key=os.environ["GFE_API_KEY"])
stream = client.chat.completions.create(
${Object.entries(body)
  .map(([name, value]) => `    ${name}=${json(value, "    ")},`)
  .join("\n")}
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  JavaScript: (apiUrl, body) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${apiUrl}/v1", apiKey: process.env.GFE_API_KEY });
const stream = await client.chat.completions.create({
${Object.entries(body)
  .map(([name, value]) => `  ${name}: ${json(value, "  ")},`)
  .join("\n")}
  stream: true,
});
for await (const { choices } of stream) process.stdout.write(choices[0]?.delta.content ?? "");`,
};

const JOB: Record<Language, (apiUrl: string, body: Body) => string> = {
  curl: (apiUrl, body) => `curl ${apiUrl}/api/computing/submit-job/ \\
  ${HEAD} \\
  -H "Content-Type: application/json" \\
  -d ${quoted(body)}

# its answer as it comes, by the id of the answer above
curl -N ${apiUrl}/api/computing/jobs/job_…/stream/ ${HEAD}`,
  Python: (apiUrl, body) => `import os

import httpx

client = httpx.Client(base_url="${apiUrl}", headers={"Authorization": "Bearer " + os.environ["GFE_API_KEY"]}, timeout=None)
asked = ${json(body, "    ").replace(/\n {4}(?=[}\]]$)/, "\n")}
job = client.post("/api/computing/submit-job/", json=asked).raise_for_status().json()["job_id"]
with client.stream("GET", f"/api/computing/jobs/{job}/stream/") as answer:
    for line in answer.iter_lines():
        print(line)`,
  JavaScript: (
    apiUrl,
    body,
  ) => `const headers = { Authorization: \`Bearer \${process.env.GFE_API_KEY}\`, "Content-Type": "application/json" };
const asked = ${JSON.stringify(body, null, 2)};
const submitted = await fetch("${apiUrl}/api/computing/submit-job/", { method: "POST", headers, body: JSON.stringify(asked) });
const { job_id } = await submitted.json();
const answer = await fetch(\`${apiUrl}/api/computing/jobs/\${job_id}/stream/\`, { headers });
for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) process.stdout.write(piece);`,
};

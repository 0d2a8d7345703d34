// Lets clients show what they can: one request a line, one answer a line (tests/clients/program.py).
import { createInterface } from "node:readline";
import * as anthropic from "./anthropic.mjs";
import * as ollama from "./ollama.mjs";
import * as openai from "./openai.mjs";

const clients = { anthropic, ollama, openai };

for await (const line of createInterface({ input: process.stdin })) {
  const { client: name, feature, url, key, given } = JSON.parse(line);
  let answer;
  try {
    const { connect, ...features } = clients[name];
    answer = { said: (await features[feature](connect(url, key), given, { url, key })) ?? null };
  } catch (error) {
    answer = { threw: String(error?.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}

import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { inCode, LANGUAGES } from "./code.ts";

const NASTY = `It's "quoted" \\ $HOME \`x\`\nnew line €`;
const asked = { prompt: NASTY, system: "Don't.", model: "m:1", max_tokens: 5, options: { temperature: 0.5, stop: ["'"] } };

describe("code to paste", () => {
  it("gives a shell exactly the request", () => {
    const script = inCode("curl", "http://api", asked).replace("curl -N", "printf '%s\\n'");
    const told = execFileSync("sh", ["-c", script], { encoding: "utf8", env: { ...process.env, GFE_API_KEY: "k" } });
    const body = JSON.parse(told.slice(told.indexOf("{")));
    expect(body).toEqual({
      model: "m:1",
      messages: [
        { role: "system", content: "Don't." },
        { role: "user", content: NASTY },
      ],
      max_tokens: 5,
      temperature: 0.5,
      stop: ["'"],
      stream: true,
    });
  });

  it("is JavaScript and names the request", () => {
    const code = inCode("JavaScript", "http://api", asked);
    const body = code.slice(code.indexOf("create(") + 7, code.indexOf("});\nfor") + 1);
    expect(new Function(`return (${body})`)().messages[1].content).toBe(NASTY);
  });

  it("asks the jobs API when one provider is wanted", () => {
    for (const language of LANGUAGES) {
      const code = inCode(language, "http://api", { prompt: "hi", provider: "bob" });
      expect(code).toContain("/api/computing/submit-job/");
      expect(code).toContain('"provider": "bob"');
    }
  });
});

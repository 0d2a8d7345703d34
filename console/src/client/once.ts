import { Problem } from "./problem.ts";

/**
 * Sends what must be done once. Who presses again because no answer came sends the same `Idempotency-Key` again, so that it is done once
 * whatever became of the first try; another request, or one after an answer, gets a key of its own.
 */
export class Once {
  #tried: { text: string; key: string } | undefined;

  async send<Answer>(asked: unknown, send: (header: { "Idempotency-Key": string }) => Promise<Answer>): Promise<Answer> {
    const text = JSON.stringify(asked);
    if (this.#tried?.text !== text) this.#tried = { text, key: newKey() };
    try {
      const answer = await send({ "Idempotency-Key": this.#tried.key });
      this.#tried = undefined;
      return answer;
    } catch (thrown) {
      if (!(thrown instanceof Problem && thrown.isPassing)) this.#tried = undefined;
      throw thrown;
    }
  }
}

/** 128 random bits. (crypto.randomUUID is not there on plain http away from this machine.) */
function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

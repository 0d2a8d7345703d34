import { asProblem, Problem, problemOf, unreachable } from "./problem.ts";

interface Answered {
  data?: unknown;
  error?: unknown;
  response: Response;
}

/**
 * What a call answers, or its problem: `const wallet = await answer(ledger.GET("/api/payments/wallet/"))`.
 *
 * Throws a {@link Problem}, and nothing else.
 */
export async function answer<A extends Answered>(asked: Promise<A>): Promise<Exclude<A["data"], undefined>> {
  let answered: A;
  try {
    answered = await asked;
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === "AbortError") throw thrown; // who asked does not want to know any more
    throw thrown instanceof Problem ? thrown : thrown instanceof TypeError ? unreachable(thrown) : asProblem(thrown);
  }
  if (!answered.response.ok) throw problemOf(answered.response, answered.error);
  return answered.data as Exclude<A["data"], undefined>;
}

/** The same for calls that answer nothing. */
export async function done(asked: Promise<Answered>): Promise<void> {
  await answer(asked);
}

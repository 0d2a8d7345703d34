import type { Session } from "../session/session.ts";
import { unreachable } from "./problem.ts";

/**
 * A `fetch` that speaks for who is signed in: it adds the access token, and when that has ended meanwhile renews it and asks once more.
 *
 * `credentials`: whether cookies go along; the job APIs, another origin, get none.
 */
export function callerFetch(session: Pick<Session, "token" | "renew">): (request: Request) => Promise<Response> {
  return async (request) => {
    const again = request.clone(); // a body can be read once
    const token = await session.token();
    const response = await send(request, token);
    if (token === null || response.status !== 401 || !ENDED.has(await codeOf(response))) return response;
    const renewed = await session.renew(token);
    return renewed === null ? response : send(again, renewed);
  };
}

/** What the services say of a token: it has ended, or the sign-in that it belongs to was ended elsewhere; renewing tells which. */
const ENDED = new Set<unknown>(["token_not_valid", "key_revoked"]);

async function send(request: Request, token: string | null): Promise<Response> {
  if (token !== null) request.headers.set("Authorization", `Bearer ${token}`);
  try {
    return await fetch(request);
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === "AbortError") throw thrown;
    throw unreachable(thrown);
  }
}

async function codeOf(response: Response): Promise<unknown> {
  try {
    return ((await response.clone().json()) as { code?: unknown }).code;
  } catch {
    return undefined;
  }
}

import createClient, { type Client } from "openapi-fetch";
import { apiUrl } from "../config.ts";
import { session } from "../session/session.ts";
import { callerFetch } from "./caller.ts";
import type { paths as LedgerPaths } from "./ledger.d.ts";
import type { paths as ServePaths } from "./serve.d.ts";

const asCaller = callerFetch(session);

/** Accounts and money, at the page's own address: `await answer(ledger.GET("/api/payments/wallet/"))`. */
export const ledger = createClient<LedgerPaths>({ baseUrl: "", fetch: asCaller });

/** Jobs, models and nodes, at the address that the ledger tells: `await answer(serve.GET("/api/computing/jobs/"))`. */
export const serve = later<ServePaths>();

type Methods = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** A client that learns its address with its first call. */
function later<Paths extends object>(): Pick<Client<Paths>, Methods> {
  let made: Promise<Record<Methods, (...asked: unknown[]) => unknown>> | undefined;
  const client = () => {
    made ??= apiUrl().then(
      (baseUrl) => createClient<Paths>({ baseUrl, fetch: asCaller, credentials: "omit" }) as never,
      (problem: unknown) => {
        made = undefined;
        throw problem;
      },
    );
    return made;
  };
  const call =
    (method: Methods) =>
    async (...asked: unknown[]) =>
      (await client())[method](...asked);
  const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;
  return Object.fromEntries(methods.map((method) => [method, call(method)])) as never;
}

/** Ask the job APIs for what OpenAPI does not describe, streams above all; `path` begins with a slash. */
export async function serveFetch(path: string, init: RequestInit = {}): Promise<Response> {
  return asCaller(new Request((await apiUrl()) + path, { credentials: "omit", ...init }));
}

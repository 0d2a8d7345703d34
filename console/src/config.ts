import type { components } from "./client/ledger.d.ts";
import { getJson } from "./client/public.ts";

export type Config = components["schemas"]["Config"];

let asked: Promise<Config> | undefined;

/** What is set here: where the job APIs are, prices, how people may sign in. Asked once; a failed try is not kept. */
export function config(): Promise<Config> {
  asked ??= getJson<Config>("/api/core/config/").catch((problem: unknown) => {
    asked = undefined;
    throw problem;
  });
  return asked;
}

/** Where the job APIs are, without a slash at the end. The development server stands before them itself. */
export async function apiUrl(): Promise<string> {
  if (import.meta.env.DEV) return window.location.origin;
  return (await config()).api_url.replace(/\/+$/, "");
}

/** Where their sockets are. */
export async function socketUrl(path: string): Promise<string> {
  return (await apiUrl()).replace(/^http/, "ws") + path;
}

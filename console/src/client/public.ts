import { problemOf, unreachable } from "./problem.ts";

/**
 * Calls without the caller's token, for the pages that everybody may see and for signing in. They are few and small, so that these pages load
 * no client library. All throw a Problem, and nothing else.
 */

export function getJson<T>(url: string): Promise<T> {
  return ask<T>(url, {});
}

/**
 * Send JSON to the ledger. The header is what a foreign page cannot send; the ledger wants it wherever the refresh cookie counts.
 * `T` is undefined for answers without a body.
 */
export function postJson<T>(path: string, body?: unknown): Promise<T> {
  const headers = { "X-GFE-CSRF": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  return ask<T>(path, { method: "POST", headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
}

async function ask<T>(url: string, init: RequestInit): Promise<T> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, init);
    text = await response.text();
  } catch (thrown) {
    throw unreachable(thrown);
  }
  const body = parsed(text);
  if (!response.ok) throw problemOf(response, body);
  return body as T;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text === "" ? undefined : text;
  }
}

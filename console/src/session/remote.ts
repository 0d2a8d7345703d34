import type { components } from "../client/ledger.d.ts";
import { Problem } from "../client/problem.ts";
import { postJson } from "../client/public.ts";

type Schemas = components["schemas"];

/** What the ledger does about sign-ins. The refresh token travels as a cookie, both ways. */

/** Renew by the cookie; null: there is none, or it does not count any more. */
export async function renew(): Promise<string | null> {
  try {
    return (await postJson<Schemas["TokenPair"]>("/api/core/token/refresh/")).access;
  } catch (problem) {
    if (problem instanceof Problem && (problem.status === 401 || problem.status === 403)) return null;
    throw problem;
  }
}

export interface Credentials {
  username: string;
  password: string;
  /** Six digits, where there is a second factor. */
  code?: string;
}

/** Sign in; answers the access token. */
export async function signIn(credentials: Credentials): Promise<string> {
  const body: Schemas["SignInBody"] = { ...credentials, deliver: "cookie" };
  return (await postJson<Schemas["TokenPair"]>("/api/core/token/", body)).access;
}

export type NewAccount = Schemas["NewAccount"];

export async function register(account: NewAccount): Promise<void> {
  await postJson("/api/core/register/", account);
}

/** Where to go for signing in through another service. */
export async function journeyTo(provider: string, returnTo: string): Promise<string> {
  const body: Schemas["JourneyAsked"] = { return_to: returnTo };
  return (await postJson<Schemas["JourneyBegun"]>(`/api/core/oauth/${encodeURIComponent(provider)}/`, body)).url;
}

/** Give the second factor after coming back from there; answers the access token. */
export async function finishJourney(code: string): Promise<string> {
  return (await postJson<Schemas["TokenPair"]>("/api/core/oauth/second-factor/", { code })).access;
}

export async function signOut(): Promise<void> {
  await postJson("/api/core/logout/");
}

/** Prove an address with the code of a mail. */
export async function verifyEmail(code: string): Promise<void> {
  await postJson("/api/core/email/verify/", { code });
}

/** Have a code for a new password mailed, if the address is known; the answer is the same when it is not. */
export async function askForReset(email: string): Promise<void> {
  await postJson("/api/core/password/reset/", { email });
}

/** Set a new password with the code of a mail. */
export async function resetPassword(code: string, password: string): Promise<void> {
  const body: Schemas["Reset"] = { code, new_password: password };
  await postJson("/api/core/password/reset/confirm/", body);
}

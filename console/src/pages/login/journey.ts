/** What to say of a sign-in through another service that did not work, by the word that it came back with. */
const FAILURES: Record<string, string> = {
  oauth_state: "The sign-in took too long, or began in another browser. Try again.",
  oauth_denied: "The other service was not allowed to tell who you are. Nothing was changed.",
  oauth_taken: "Another account here signs in with it already. Sign in to that one.",
  oauth_failed: "The other service did not tell who you are. Try again, or sign in with a password.",
};

export function journeyFailure(word: string): string {
  return FAILURES[word] ?? FAILURES.oauth_failed ?? "";
}

const NAMES: Record<string, string> = { google: "Google", github: "GitHub" };

/** A provider's name for people. */
export function providerName(provider: string): string {
  return NAMES[provider] ?? provider;
}

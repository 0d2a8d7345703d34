/** What an access token says of itself. Read for show and for timing only: the services verify, this page does not. */

export interface Claims {
  /** The account's id. */
  sub: string;
  /** Its username. */
  name: string;
  scopes: string[];
  /** How long the token lasts from when it was made, in seconds. */
  lifetimeS: number;
}

/** Read a token's claims; undefined: it is none of ours. */
export function claimsOf(token: string): Claims | undefined {
  try {
    const part = token.split(".")[1] ?? "";
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    const said = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    if (typeof said.sub !== "string" || typeof said.exp !== "number" || typeof said.iat !== "number") return undefined;
    return {
      sub: said.sub,
      name: typeof said.name === "string" ? said.name : said.sub,
      scopes: typeof said.scope === "string" ? said.scope.split(" ") : [],
      lifetimeS: said.exp - said.iat,
    };
  } catch {
    return undefined;
  }
}

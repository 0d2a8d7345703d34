import { Problem } from "../client/problem.ts";
import { type Claims, claimsOf } from "./claims.ts";
import * as remote from "./remote.ts";
import { type Said, type Tabs, tabs } from "./tabs.ts";

/**
 * Who is signed in. The access token lives in this object alone, never in storage or an address; the refresh token is a cookie that no
 * script can read. Tabs of one browser share the access token in memory: one of them renews it, the others hear of it.
 */

export type Status =
  /** Nobody has asked yet. */
  "unknown" | "in" | "out";

export interface State {
  readonly status: Status;
  readonly claims: Claims | undefined;
  /** Why nobody is signed in any more: by wish, or because the sign-in came to its end. */
  readonly because?: "wish" | "ended";
}

/** What a session needs of the world; replaced in tests. */
export interface World {
  remote: Pick<typeof remote, "renew" | "signOut">;
  tabs: Tabs;
  /** Run alone among all tabs. */
  alone: <T>(work: () => Promise<T>) => Promise<T>;
  now: () => number;
}

interface Held {
  token: string;
  claims: Claims;
  /** When it ends by this machine's clock, in milliseconds: its lifetime from when it came, so that a wrong clock does not matter. */
  endsAt: number;
}

const EARLY_MS = 60_000; // renewed so long before its end
const ASK_TABS_MS = 120; // another tab answers within this, or there is none
const RETRY_MS = 5_000;

export class Session {
  readonly #world: World;
  readonly #listeners = new Set<() => void>();
  #state: State = { status: "unknown", claims: undefined };
  #held: Held | undefined;
  #begun: Promise<void> | undefined;
  #renewing: Promise<string | null> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(world: World) {
    this.#world = world;
    world.tabs.hear((said) => this.#hear(said));
  }

  // For React's useSyncExternalStore.
  readonly state = (): State => this.#state;
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Find out who is signed in: another tab knows, or the cookie does. Throws a Problem when the ledger does not answer; ask again then. */
  begin(): Promise<void> {
    this.#begun ??= this.#find().catch((problem: unknown) => {
      this.#begun = undefined;
      throw problem;
    });
    return this.#begun;
  }

  /** The access token, renewed when it is about to end; null: nobody is signed in. */
  async token(): Promise<string | null> {
    if (this.#state.status === "unknown") await this.begin();
    if (this.#held === undefined) return null;
    if (this.#world.now() < this.#held.endsAt - EARLY_MS / 2) return this.#held.token;
    return this.renew(this.#held.token);
  }

  /** Put another token in the place of one that does not count any more; null: the sign-in has ended. */
  renew(old: string): Promise<string | null> {
    if (this.#held !== undefined && this.#held.token !== old) return Promise.resolve(this.#held.token);
    this.#renewing ??= this.#renew(old).finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  /** Begin a session with the token that signing in gave. */
  adopt(token: string): void {
    this.#take(token);
    this.#world.tabs.say({ kind: "token", token, endsAt: this.#held?.endsAt ?? 0 });
  }

  /** End the session, here and in the other tabs. What the ledger says to it does not keep anybody in. */
  async signOut(): Promise<void> {
    this.#end("wish");
    this.#world.tabs.say({ kind: "out" });
    await this.#world.remote.signOut().catch(() => undefined);
  }

  async #find(): Promise<void> {
    this.#world.tabs.say({ kind: "ask" });
    await new Promise<void>((resolve) => {
      const stop = this.subscribe(() => this.#state.status === "in" && heard());
      const timer = setTimeout(() => heard(), ASK_TABS_MS);
      const heard = () => {
        clearTimeout(timer);
        stop();
        resolve();
      };
    });
    if (this.#held === undefined) await this.renew("");
  }

  async #renew(old: string): Promise<string | null> {
    return this.#world.alone(async () => {
      if (this.#held !== undefined && this.#held.token !== old) return this.#held.token; // another tab was faster
      const token = await this.#world.remote.renew();
      if (token === null) {
        if (this.#state.status === "in") this.#world.tabs.say({ kind: "out" });
        this.#end(this.#state.status === "in" ? "ended" : undefined);
        return null;
      }
      this.adopt(token);
      return token;
    });
  }

  #hear(said: Said): void {
    if (said.kind === "token" && said.token !== this.#held?.token) this.#take(said.token, said.endsAt);
    else if (said.kind === "out" && this.#state.status === "in") this.#end("wish");
    else if (said.kind === "ask" && this.#held !== undefined) {
      this.#world.tabs.say({ kind: "token", token: this.#held.token, endsAt: this.#held.endsAt });
    }
  }

  #take(token: string, endsAt?: number): void {
    const claims = claimsOf(token);
    if (claims === undefined) throw new Problem(-1, { detail: "The sign-in cannot be read. Reload the page.", code: "defect" });
    this.#held = { token, claims, endsAt: endsAt ?? this.#world.now() + claims.lifetimeS * 1000 };
    this.#renewAt(this.#held.endsAt - EARLY_MS);
    this.#become({ status: "in", claims });
  }

  #end(because?: "wish" | "ended"): void {
    clearTimeout(this.#timer);
    this.#held = undefined;
    this.#become({ status: "out", claims: undefined, ...(because ? { because } : {}) });
  }

  #renewAt(at: number): void {
    clearTimeout(this.#timer);
    const token = this.#held?.token;
    this.#timer = setTimeout(
      () => {
        if (token === undefined || token !== this.#held?.token) return;
        this.renew(token).catch(() => this.#renewAt(this.#world.now() + RETRY_MS)); // the ledger is silent: the token may still count
      },
      Math.max(0, at - this.#world.now()),
    );
  }

  #become(state: State): void {
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** One at a time over all tabs, where the browser has locks; it has none on plain http away from this machine, where the ledger's grace has to do. */
function alone<T>(work: () => Promise<T>): Promise<T> {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks as LockManager | undefined;
  return locks ? (locks.request("gfe-refresh", work) as Promise<T>) : work();
}

export const session = new Session({ remote, tabs: tabs(), alone, now: () => Date.now() });

import type { QueryClient } from "@tanstack/react-query";
import { socketUrl } from "../config.ts";
import { keys } from "../queries.ts";
import { session } from "../session/session.ts";
import { cacheTold } from "./cache.ts";
import type { Message } from "./messages.ts";
import { type News, NOTHING, told } from "./news.ts";
import { type Connection, LiveSocket } from "./socket.ts";

/** The one socket of this tab, and what it has told: a store for React, which keeps the cache of queries true as well. */

export interface Live extends News {
  readonly connection: Connection;
}

class LiveStore {
  #state: Live = { ...NOTHING, connection: "off" };
  #queries: QueryClient | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #socket = new LiveSocket(
    {
      url: () => socketUrl("/ws/dashboard/"),
      token: () => session.token(),
      renew: (old) => session.renew(old),
      open: (url) => new WebSocket(url),
      random: Math.random,
    },
    {
      told: (messages) => this.#told(messages),
      became: (connection) => this.#became({ ...(connection === "off" ? NOTHING : this.#state), connection }),
      since: () => this.#state.seq,
    },
  );

  readonly state = (): Live => this.#state;
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Listen for who is signed in, as long as somebody is; answers how to stop. The shell does this. */
  start(queries: QueryClient): () => void {
    this.#queries = queries;
    let who = session.state().claims?.sub;
    const follow = async () => {
      const { claims } = session.state();
      if (claims?.sub !== who) {
        this.#socket.stop(); // another account has another socket
        who = claims?.sub;
      }
      if (who === undefined) return;
      this.#socket.start();
      const token = await session.token().catch(() => null);
      if (token !== null) this.#socket.show(token);
    };
    const hurry = () => this.#socket.hurry();
    const unfollow = session.subscribe(() => void follow());
    window.addEventListener("online", hurry);
    void follow();
    return () => {
      unfollow();
      window.removeEventListener("online", hurry);
      this.#socket.stop();
    };
  }

  #told(messages: Message[]): void {
    const before = this.#state;
    this.#became({ ...messages.reduce<News>(told, before), connection: before.connection });
    if (this.#queries) cacheTold(this.#queries, messages, before);
  }

  #became(state: Live): void {
    const isBack = state.connection === "open" && this.#state.connection === "polling";
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
    if (isBack) void this.#queries?.invalidateQueries({ queryKey: keys.jobs });
  }
}

export const live = new LiveStore();

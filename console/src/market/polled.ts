import { useSyncExternalStore } from "react";
import { asProblem, type Problem } from "../client/problem.ts";

/** What was answered last, and what went wrong since, if anything did. */
export interface Polled<Data> {
  readonly data: Data | undefined;
  readonly problem: Problem | undefined;
}

/**
 * Something that pages for everybody ask for, again and again while somebody looks at it: one asker for all who look, none for a page in the
 * background. Pages of who is signed in have TanStack Query and the live socket instead, which these pages do not load.
 */
export class Poll<Data> {
  readonly #ask: () => Promise<Data>;
  readonly #everyMs: number | undefined;
  readonly #listeners = new Set<() => void>();
  #state: Polled<Data> = { data: undefined, problem: undefined };
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isAsking = false;

  /** `everyMs` undefined: asked once, and again only after a problem. */
  constructor(ask: () => Promise<Data>, everyMs?: number) {
    this.#ask = ask;
    this.#everyMs = everyMs;
  }

  readonly state = (): Polled<Data> => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1 && (this.#state.data === undefined || this.#everyMs !== undefined)) void this.again();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) clearTimeout(this.#timer);
    };
  };

  /** Ask now. */
  readonly again = async (): Promise<void> => {
    clearTimeout(this.#timer);
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      this.#become({ data: await this.#ask(), problem: undefined });
    } catch (thrown) {
      this.#become({ data: this.#state.data, problem: asProblem(thrown) });
    } finally {
      this.#isAsking = false;
    }
    if (this.#listeners.size > 0) this.#wait();
  };

  #wait(): void {
    const usual = this.#everyMs ?? (this.#state.problem ? AFTER_PROBLEM_MS : undefined);
    if (usual === undefined) return;
    const wanted = (this.#state.problem?.retryAfterS ?? 0) * 1000;
    this.#timer = setTimeout(() => (isHidden() ? this.#wait() : void this.again()), Math.max(usual, wanted));
  }

  #become(state: Polled<Data>): void {
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
  }
}

const AFTER_PROBLEM_MS = 10_000;

function isHidden(): boolean {
  return typeof document !== "undefined" && document.visibilityState === "hidden";
}

export function usePolled<Data>(poll: Poll<Data>): Polled<Data> {
  return useSyncExternalStore(poll.subscribe, poll.state);
}

import { session } from "../session/session.ts";

/** What lies on the desk of the playground: the request that is being written, and the last jobs begun here. In memory alone: prompts go into no address and no storage. */

export interface Draft {
  readonly model: string;
  /** A username or a node's id; blank: anybody. */
  readonly provider: string;
  readonly prompt: string;
  readonly system: string;
  /** As typed; blank: the platform's usual. */
  readonly maxTokens: string;
  readonly temperature: string;
  readonly topP: string;
  readonly seed: string;
  /** One per line. */
  readonly stop: string;
}

/** A job whose answer is shown beside the others. */
export interface Run {
  readonly id: string;
  readonly model: string;
  readonly prompt: string;
  /** When it was submitted here, in milliseconds of performance.now(); undefined: it was found running. */
  readonly submittedAt: number | undefined;
  /** What was reserved for it, where that is known. */
  readonly held: string | undefined;
}

export interface OnDesk {
  readonly draft: Draft;
  /** The newest first. */
  readonly runs: readonly Run[];
}

export const BLANK: Draft = {
  model: "",
  provider: "",
  prompt: "",
  system: "",
  maxTokens: "",
  temperature: "",
  topP: "",
  seed: "",
  stop: "",
};
export const SIDE_BY_SIDE = 3;

export class Desk {
  #state: OnDesk = { draft: BLANK, runs: [] };
  #hasLooked = false;
  readonly #listeners = new Set<() => void>();

  readonly state = (): OnDesk => this.#state;
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  edit(change: Partial<Draft>): void {
    this.#became({ draft: { ...this.#state.draft, ...change } });
  }

  begun(run: Run): void {
    this.#hasLooked = true;
    this.#became({ runs: [run, ...this.#state.runs.filter((one) => one.id !== run.id)].slice(0, SIDE_BY_SIDE) });
  }

  /** Put jobs that run already on the desk, the first time it is looked at: a page that was loaded again shows them again. */
  found(runs: readonly Run[]): void {
    if (this.#hasLooked) return;
    this.#hasLooked = true;
    if (runs.length > 0) this.#became({ runs: runs.slice(0, SIDE_BY_SIDE) });
  }

  remove(id: string): void {
    this.#became({ runs: this.#state.runs.filter((run) => run.id !== id) });
  }

  clear(): void {
    this.#hasLooked = false;
    this.#became({ draft: BLANK, runs: [] });
  }

  #became(change: Partial<OnDesk>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
}

export const desk = new Desk();

/** Nothing of one account is shown to the next. */
let laidFor: string | undefined;
session.subscribe(() => {
  const who = session.state().claims?.sub;
  if (who !== laidFor && laidFor !== undefined) desk.clear();
  laidFor = who;
});

import { asProblem, problemOf, unreachable } from "../client/problem.ts";
import { EventParser } from "./events.ts";
import { afterProblem, type EndedJob, heard, type Reading, UNREAD } from "./reading.ts";

/** What a reader needs of the world; replaced in tests. */
export interface ReaderWorld {
  /** Open the job's stream from an event on. */
  open: (from: number, signal: AbortSignal) => Promise<Response>;
  ended: (job: EndedJob) => void;
  now: () => number;
  random: () => number;
}

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5_000;
const SILENT_MS = 20_000; // the platform says something every two seconds
const LINGER_MS = 1_000; // so long a stream is kept open for who comes right back

/**
 * Reads a job's answer as it comes, as long as somebody looks at it: broken streams are read on from where they were, and so is the answer
 * when somebody looks at it again.
 */
export class JobReader {
  readonly #world: ReaderWorld;
  readonly #listeners = new Set<() => void>();
  #state: Reading = UNREAD;
  #running: AbortController | undefined;
  #leaving: ReturnType<typeof setTimeout> | undefined;

  constructor(world: ReaderWorld) {
    this.#world = world;
  }

  readonly state = (): Reading => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    clearTimeout(this.#leaving);
    if (this.#running === undefined && this.#state.job === undefined) void this.#run();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#leaving = setTimeout(() => this.stop(), LINGER_MS);
    };
  };

  /** Try again after a problem. */
  readonly again = (): void => {
    this.stop();
    if (this.#state.job === undefined) void this.#run();
  };

  stop(): void {
    this.#running?.abort();
    this.#running = undefined;
    if (this.#state.job === undefined) this.#became({ ...this.#state, connection: "idle", problem: undefined, isWhole: false });
  }

  async #run(): Promise<void> {
    const running = new AbortController();
    this.#running = running;
    let failures = 0;
    while (!running.signal.aborted) {
      const before = this.#state.next;
      try {
        await this.#read(running.signal);
      } catch (thrown) {
        if (running.signal.aborted) return;
        const problem = asProblem(thrown);
        const next = afterProblem(this.#state, problem);
        this.#became(next ?? { ...this.#state, connection: "failed", problem });
        if (next === undefined) break;
      }
      if (running.signal.aborted) return;
      if (this.#state.job !== undefined) {
        this.#world.ended(this.#state.job);
        break;
      }
      failures = this.#state.next > before ? 0 : failures + 1;
      this.#became({ ...this.#state, connection: "reconnecting", isWhole: false });
      await pause(this.#world.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures), running.signal);
    }
    if (this.#running === running) this.#running = undefined;
  }

  /** Read one stream to its end, or to where it breaks. */
  async #read(stopped: AbortSignal): Promise<void> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENT_MS);
    try {
      const response = await this.#world.open(this.#state.next, AbortSignal.any([stopped, silence.signal]));
      if (!response.ok || response.body === null) throw problemOf(response, await response.json().catch(() => undefined));
      this.#became({ ...this.#state, connection: "open", problem: undefined });
      const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      for (;;) {
        const { done, value } = await pieces.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENT_MS);
        const events = parser.feed(value);
        try {
          for (const one of events) this.#state = heard(this.#state, one, this.#world.now());
        } finally {
          if (events.length > 0) this.#became(this.#state); // also what came before an error
        }
      }
    } catch (thrown) {
      if (this.#state.job === undefined && !stopped.aborted) throw isCut(thrown) ? unreachable(thrown) : thrown;
    } finally {
      clearTimeout(timer);
    }
  }

  #became(state: Reading): void {
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** A stream that broke on its way, or that was given up for its silence. */
function isCut(thrown: unknown): boolean {
  return thrown instanceof TypeError || (thrown instanceof DOMException && thrown.name === "AbortError");
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

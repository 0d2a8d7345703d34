import { type Message, messagesOf } from "./messages.ts";

/**
 * One socket that comes back: opened, authenticated by its first frame, and opened again after a break, from where it was.
 * What each closing code asks for stands in docs/concepts/live-updates.md.
 */

export type Connection =
  /** Nobody is signed in, or the platform does not let this account listen. */
  | "off"
  | "connecting"
  | "open"
  /** It broke, and comes back soon. */
  | "reconnecting"
  /** It broke several times: pages ask by themselves until it is back. */
  | "polling";

/** What a socket needs of the world; replaced in tests. */
export interface SocketWorld {
  url: () => Promise<string>;
  token: () => Promise<string | null>;
  /** Put another token in the place of one that was refused; null: the sign-in has ended. */
  renew: (old: string) => Promise<string | null>;
  open: (url: string) => WebSocket;
  random: () => number;
}

export interface SocketEvents {
  told: (messages: Message[]) => void;
  became: (connection: Connection) => void;
  /** Where to go on. */
  since: () => number | undefined;
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
const FULL_PAUSE_MS = 30_000; // what 1013 asks for
const SILENT_MS = 40_000; // the platform says something every 15 s
const FAILURES_UNTIL_POLLING = 3;
const UNAUTHENTICATED = 4401;
const FORBIDDEN = 4403;
const POLICY = 1008;
const COME_BACK = 1012;
const FULL = 1013;

/** The wait before try `failures` (from 0), in milliseconds: full jitter (Brooker, "Exponential Backoff And Jitter", 2015). */
export function pauseMs(failures: number, random: () => number): number {
  return random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
}

export class LiveSocket {
  readonly #world: SocketWorld;
  readonly #events: SocketEvents;
  #socket: WebSocket | undefined;
  #shown = "";
  #failures = 0;
  #refusals = 0;
  #isWanted = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;

  constructor(world: SocketWorld, events: SocketEvents) {
    this.#world = world;
    this.#events = events;
  }

  start(): void {
    if (this.#isWanted) return;
    this.#isWanted = true;
    this.#failures = 0;
    this.#refusals = 0;
    this.#events.became("connecting");
    void this.#connect();
  }

  stop(): void {
    this.#isWanted = false;
    clearTimeout(this.#timer);
    this.#drop();
    this.#events.became("off");
  }

  /** Show a renewed token in band, so that the socket outlives the old one. */
  show(token: string): void {
    if (this.#socket?.readyState !== WebSocket.OPEN || token === this.#shown) return;
    this.#shown = token;
    this.#socket.send(JSON.stringify({ type: "auth", token }));
  }

  /** Try at once instead of waiting: the network is back. */
  hurry(): void {
    if (!this.#isWanted || this.#socket !== undefined) return;
    clearTimeout(this.#timer);
    void this.#connect();
  }

  #drop(): void {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
  }

  async #connect(): Promise<void> {
    try {
      const [url, token] = await Promise.all([this.#world.url(), this.#world.token()]);
      if (!this.#isWanted || this.#socket !== undefined) return;
      if (token === null) return this.stop();
      this.#listen(this.#world.open(url), token);
    } catch {
      if (this.#isWanted) this.#comeBack(pauseMs(this.#failures, this.#world.random)); // the ledger does not answer
    }
  }

  #listen(socket: WebSocket, token: string): void {
    this.#socket = socket;
    this.#shown = token;
    this.#hearUntilSilent();
    socket.onopen = () => {
      const since = this.#events.since();
      socket.send(JSON.stringify({ type: "auth", token, ...(since === undefined ? {} : { since }) }));
    };
    socket.onmessage = (event) => {
      this.#hearUntilSilent();
      const messages = messagesOf(event.data);
      if (messages.some((one) => one.type === "authenticated")) {
        this.#failures = 0;
        this.#refusals = 0;
        this.#events.became("open");
      }
      this.#events.told(messages);
    };
    socket.onclose = (event) => {
      this.#drop();
      void this.#closed(event.code);
    };
  }

  /** A network that vanished says nothing, not even that. */
  #hearUntilSilent(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#drop();
      this.#comeBack(0);
    }, SILENT_MS);
  }

  async #closed(code: number): Promise<void> {
    if (!this.#isWanted) return;
    if (code === FORBIDDEN || (code === UNAUTHENTICATED && ++this.#refusals > 1)) return this.#giveUp();
    if (code === UNAUTHENTICATED) {
      const renewed = await this.#world.renew(this.#shown).catch(() => this.#shown);
      if (renewed === null) return this.stop();
      return this.#comeBack(0);
    }
    if (code === COME_BACK) return this.#comeBack(this.#world.random() * FIRST_PAUSE_MS);
    if (code === FULL || code === POLICY) return this.#comeBack(FULL_PAUSE_MS * (0.5 + this.#world.random()));
    this.#comeBack(pauseMs(this.#failures, this.#world.random));
  }

  #comeBack(pause: number): void {
    if (!this.#isWanted) return;
    this.#failures += 1;
    this.#events.became(this.#failures >= FAILURES_UNTIL_POLLING ? "polling" : "reconnecting");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), pause);
  }

  #giveUp(): void {
    this.#isWanted = false;
    this.#events.became("polling");
  }
}

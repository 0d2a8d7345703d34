import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Message } from "./messages.ts";
import { type Connection, LiveSocket, pauseMs } from "./socket.ts";

/** The platform's end of a socket. */
class Line {
  static readonly OPEN = 1;
  readyState = 0;
  heard: Record<string, unknown>[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  onerror: (() => void) | null = null;

  send(text: string): void {
    this.heard.push(JSON.parse(text));
  }

  close(): void {
    this.readyState = 3;
  }

  accept(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  say(...messages: unknown[]): void {
    this.onmessage?.({ data: JSON.stringify(messages) });
  }

  end(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

let lines: Line[];
let became: Connection[];
let told: Message[];
let tokens: (string | null)[];
let since: number | undefined;
let socket: LiveSocket;

const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const line = () => lines.at(-1) as Line;

async function opened(): Promise<Line> {
  await settle();
  line().accept();
  line().say({ type: "authenticated" });
  return line();
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", Line);
  [lines, became, told, tokens, since] = [[], [], [], ["t1"], undefined];
  socket = new LiveSocket(
    {
      url: async () => "ws://gfe.test/ws/dashboard/",
      token: async () => tokens.at(-1) ?? null,
      renew: async () => tokens.at(-1) ?? null,
      open: () => {
        lines.push(new Line());
        return line() as unknown as WebSocket;
      },
      random: () => 1,
    },
    { told: (messages) => told.push(...messages), became: (one) => became.push(one), since: () => since },
  );
  socket.start();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a live socket", () => {
  it("says who calls in its first frame, and hears", async () => {
    const first = await opened();
    first.say({ type: "beat", seq: 3 });
    expect(first.heard).toEqual([{ type: "auth", token: "t1" }]);
    expect(became).toEqual(["connecting", "open"]);
    expect(told.map((one) => one.type)).toEqual(["authenticated", "beat"]);
  });

  it("goes on from where it was after a break", async () => {
    (await opened()).end(1006);
    since = 42;
    expect(became.at(-1)).toBe("reconnecting");
    await settle(500);
    await opened();
    expect(line().heard).toEqual([{ type: "auth", token: "t1", since: 42 }]);
    expect(became.at(-1)).toBe("open");
  });

  it("waits longer and longer, and lets pages ask by themselves meanwhile", async () => {
    await opened();
    for (const wait of [500, 1000, 2000, 4000]) {
      line().end(1011);
      const tries = lines.length;
      await settle(wait - 1);
      expect(lines).toHaveLength(tries);
      await settle(1);
      expect(lines).toHaveLength(tries + 1);
    }
    expect(became.at(-1)).toBe("polling");
    await opened();
    expect(became.at(-1)).toBe("open");
  });

  it("comes back at once when the replica ends, and later when it is full", async () => {
    (await opened()).end(1012);
    await settle(500);
    expect(lines).toHaveLength(2);
    (await opened()).end(1013);
    await settle(40_000);
    expect(lines).toHaveLength(2);
    await settle(5_000);
    expect(lines).toHaveLength(3);
  });

  it("shows a renewed token in band", async () => {
    const first = await opened();
    socket.show("t2");
    socket.show("t2");
    expect(first.heard.slice(1)).toEqual([{ type: "auth", token: "t2" }]);
  });

  it("renews a token that was refused, once", async () => {
    (await opened()).end(4401);
    tokens.push("t2");
    await settle();
    await settle(1);
    line().accept();
    expect(line().heard).toEqual([{ type: "auth", token: "t2" }]);
    line().end(4401);
    await settle(120_000);
    expect(lines).toHaveLength(2);
    expect(became.at(-1)).toBe("polling");
  });

  it("is off when the sign-in has ended", async () => {
    tokens.push(null);
    (await opened()).end(4401);
    await settle(120_000);
    expect(became.at(-1)).toBe("off");
    expect(lines).toHaveLength(1);
  });

  it("notices a network that fell silent", async () => {
    await opened();
    await settle(41_000);
    expect(lines).toHaveLength(2);
  });

  it("hurries when the network is back, and stops when it is told to", async () => {
    (await opened()).end(1006);
    socket.hurry();
    await settle();
    expect(lines).toHaveLength(2);
    socket.stop();
    await settle(120_000);
    expect(lines).toHaveLength(2);
    expect(became.at(-1)).toBe("off");
  });

  it("spreads who comes back", () => {
    expect([0, 1, 10].map((failures) => pauseMs(failures, () => 1))).toEqual([500, 1000, 30_000]);
    expect(pauseMs(5, () => 0)).toBe(0);
  });
});

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Problem } from "../client/problem.ts";
import { Session } from "./session.ts";
import type { Said, Tabs } from "./tabs.ts";

/** A browser: its cookie's sign-in, its tabs, its lock. */
class Browser {
  made = 0;
  renewals = 0;
  isSignedIn = true;
  isSilent = false;
  readonly said: Said[] = [];
  readonly #tabs: ((said: Said) => void)[] = [];
  #last: Promise<unknown> = Promise.resolve();

  open(): Session {
    const at = this.#tabs.length;
    const tabs: Tabs = {
      say: (said) => {
        this.said.push(said);
        for (const [other, hear] of this.#tabs.entries()) if (other !== at) queueMicrotask(() => hear(said));
      },
      hear: (listener) => this.#tabs.push(listener),
    };
    return new Session({
      tabs,
      now: () => Date.now(),
      alone: (work) => {
        const turn = this.#last.then(work, work);
        this.#last = turn.catch(() => undefined);
        return turn;
      },
      remote: {
        renew: async () => {
          this.renewals += 1;
          await new Promise((resolve) => setTimeout(resolve, 50));
          if (this.isSilent) throw new Problem(503, { detail: "silent" });
          return this.isSignedIn ? this.token() : null;
        },
        signOut: async () => {
          this.isSignedIn = false;
        },
      },
    });
  }

  token(name = "ada"): string {
    this.made += 1;
    const claims = { sub: `user_${name}`, name, scope: "jobs:read operator", iat: 1000, exp: 1600, jti: this.made };
    return `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.sig`;
  }
}

let browser: Browser;
beforeEach(() => {
  vi.useFakeTimers();
  browser = new Browser();
});
afterEach(() => {
  vi.useRealTimers();
});

async function begun(tab: Session): Promise<Session> {
  const began = tab.begin();
  await vi.advanceTimersByTimeAsync(1000);
  await began;
  return tab;
}

async function settled<T>(promise: Promise<T>): Promise<T> {
  await vi.advanceTimersByTimeAsync(1000);
  return promise;
}

describe("a session", () => {
  it("is found again by the cookie", async () => {
    const tab = await begun(browser.open());
    expect(tab.state()).toMatchObject({ status: "in", claims: { name: "ada", scopes: ["jobs:read", "operator"] } });
    expect(await tab.token()).toMatch(/^e30\./);
  });

  it("is none where there is no cookie, and that is no error", async () => {
    browser.isSignedIn = false;
    const tab = await begun(browser.open());
    expect(tab.state()).toEqual({ status: "out", claims: undefined });
    expect(await tab.token()).toBeNull();
  });

  it("is taken from another tab without asking the ledger", async () => {
    const first = await begun(browser.open());
    const second = await begun(browser.open());
    expect(await second.token()).toBe(await first.token());
    expect(browser.renewals).toBe(1);
  });

  it("is renewed once by all calls of all tabs that need it at the same time", async () => {
    const first = await begun(browser.open());
    const second = await begun(browser.open());
    const old = (await first.token()) ?? "";
    const renewed = await settled(Promise.all([first.renew(old), first.renew(old), second.renew(old)]));
    expect(new Set(renewed).size).toBe(1);
    expect(renewed[0]).not.toBe(old);
    expect(browser.renewals).toBe(2);
  });

  it("is renewed a minute before its end, by itself", async () => {
    const tab = await begun(browser.open());
    const old = await tab.token();
    await vi.advanceTimersByTimeAsync(535_000);
    expect(browser.renewals).toBe(1);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(browser.renewals).toBe(2);
    expect(await tab.token()).not.toBe(old);
  });

  it("goes on when the ledger is silent for a while", async () => {
    const tab = await begun(browser.open());
    browser.isSilent = true;
    await vi.advanceTimersByTimeAsync(560_000);
    expect(tab.state().status).toBe("in");
    browser.isSilent = false;
    await vi.advanceTimersByTimeAsync(6_000);
    expect(tab.state().status).toBe("in");
    expect(browser.said.filter((said) => said.kind === "token")).toHaveLength(2);
  });

  it("says so when the ledger is silent from the beginning, and can begin again", async () => {
    browser.isSilent = true;
    const tab = browser.open();
    const began = expect(tab.begin()).rejects.toThrow("silent");
    await vi.advanceTimersByTimeAsync(1000);
    await began;
    browser.isSilent = false;
    expect((await begun(tab)).state().status).toBe("in");
  });

  it("ends in all tabs when it was revoked", async () => {
    const first = await begun(browser.open());
    const second = await begun(browser.open());
    browser.isSignedIn = false;
    expect(await settled(first.renew((await first.token()) ?? ""))).toBeNull();
    expect(first.state()).toMatchObject({ status: "out", because: "ended" });
    expect(second.state().status).toBe("out");
  });

  it("ends in all tabs when one signs out", async () => {
    const first = await begun(browser.open());
    const second = await begun(browser.open());
    await settled(first.signOut());
    expect([first.state().status, second.state().status]).toEqual(["out", "out"]);
    expect(browser.isSignedIn).toBe(false);
    expect(await second.token()).toBeNull();
  });

  it("begins in all tabs when one signs in", async () => {
    browser.isSignedIn = false;
    const first = await begun(browser.open());
    const second = await begun(browser.open());
    first.adopt(browser.token("bob"));
    await vi.advanceTimersByTimeAsync(1);
    expect(second.state()).toMatchObject({ status: "in", claims: { name: "bob" } });
  });

  it("does not begin with what is no token of ours", () => {
    expect(() => browser.open().adopt("not a token")).toThrow(Problem);
  });
});

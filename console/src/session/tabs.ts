/** What the tabs of one browser say to each other; in memory only, and only to pages of this origin. */

export type Said =
  /** Does anybody have a token? */
  { kind: "ask" } | { kind: "token"; token: string; endsAt: number } | { kind: "out" };

export interface Tabs {
  say: (said: Said) => void;
  hear: (listener: (said: Said) => void) => void;
}

/** The tabs of this browser. */
export function tabs(): Tabs {
  const channel = new BroadcastChannel("gfe-session");
  return {
    say: (said) => channel.postMessage(said),
    hear: (listener) => {
      channel.onmessage = (event: MessageEvent<Said>) => listener(event.data);
    },
  };
}

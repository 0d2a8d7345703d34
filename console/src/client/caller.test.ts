import { HttpResponse, http } from "msw";
import { setupServer } from "msw/node";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { callerFetch } from "./caller.ts";

const url = "http://gfe.test/api/core/keys/";
const server = setupServer();
beforeAll(() => server.listen({ onUnhandledFrame: "error" }));
afterEach(() => server.resetHandlers());
afterAll(() => server.close());

function sessionWith(tokens: (string | null)[]) {
  const held = [...tokens];
  return {
    token: async () => held[0] ?? null,
    renew: async () => {
      held.shift();
      return held[0] ?? null;
    },
  };
}

/** An API that takes one token, and repeats the body that it got with it. */
function takes(good: string, code = "token_not_valid") {
  const seen: (string | null)[] = [];
  server.use(
    http.post(url, async ({ request }) => {
      seen.push(request.headers.get("Authorization"));
      if (seen.at(-1) === `Bearer ${good}`) return HttpResponse.json({ body: await request.json() });
      return HttpResponse.json({ code, detail: "Given token not valid for any token type" }, { status: 401 });
    }),
  );
  return seen;
}

const asked = () =>
  new Request(url, { method: "POST", body: JSON.stringify({ name: "laptop" }), headers: { "Content-Type": "application/json" } });

describe("a call for who is signed in", () => {
  it("carries the token", async () => {
    const seen = takes("good");
    const response = await callerFetch(sessionWith(["good"]))(asked());
    expect(await response.json()).toEqual({ body: { name: "laptop" } });
    expect(seen).toEqual(["Bearer good"]);
  });

  it("is repeated once, body and all, when the token has ended meanwhile", async () => {
    const seen = takes("new");
    const response = await callerFetch(sessionWith(["old", "new"]))(asked());
    expect(await response.json()).toEqual({ body: { name: "laptop" } });
    expect(seen).toEqual(["Bearer old", "Bearer new"]);
  });

  it("is not repeated for ever", async () => {
    const seen = takes("another");
    const response = await callerFetch(sessionWith(["old", "new", "newer"]))(asked());
    expect(response.status).toBe(401);
    expect(seen).toHaveLength(2);
  });

  it("shows the refusal when the sign-in has ended", async () => {
    const seen = takes("another");
    expect((await callerFetch(sessionWith(["old", null]))(asked())).status).toBe(401);
    expect(seen).toHaveLength(1);
  });

  it("asks whether the sign-in was ended elsewhere", async () => {
    takes("another", "key_revoked");
    const session = sessionWith(["old", null]);
    expect((await callerFetch(session)(asked())).status).toBe(401);
    expect(await session.token()).toBeNull();
  });

  it("is not repeated for a refusal that is not about the token", async () => {
    let calls = 0;
    server.use(
      http.post(url, () => {
        calls += 1;
        return HttpResponse.json({ code: "totp_wrong" }, { status: 401 });
      }),
    );
    expect((await callerFetch(sessionWith(["good", "new"]))(asked())).status).toBe(401);
    expect(calls).toBe(1);
  });

  it("says that nobody answered", async () => {
    server.use(http.post(url, () => HttpResponse.error()));
    await expect(callerFetch(sessionWith(["good"]))(asked())).rejects.toMatchObject({ code: "unreachable", status: 0 });
  });
});

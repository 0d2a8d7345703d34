import { expect, it } from "vitest";
import { BLANK, Desk, type Run } from "./desk.ts";

const run = (id: string): Run => ({ id, model: "m", prompt: "p", submittedAt: 0, held: "1.00" });
const ids = (desk: Desk) => desk.state().runs.map((one) => one.id);

it("lays the last three jobs side by side", () => {
  const desk = new Desk();
  for (const id of ["a", "b", "c", "d", "c"]) desk.begun(run(id));
  expect(ids(desk)).toEqual(["c", "d", "b"]);
  desk.remove("d");
  expect(ids(desk)).toEqual(["c", "b"]);
});

it("takes up what runs the first time it is looked at, and never what was put away", () => {
  const desk = new Desk();
  desk.found([run("a")]);
  desk.remove("a");
  desk.found([run("a")]);
  expect(ids(desk)).toEqual([]);
});

it("keeps what is written until it is cleared", () => {
  const desk = new Desk();
  desk.edit({ prompt: "hi" });
  desk.edit({ model: "m" });
  expect(desk.state().draft).toEqual({ ...BLANK, prompt: "hi", model: "m" });
  desk.clear();
  expect(desk.state()).toEqual({ draft: BLANK, runs: [] });
});

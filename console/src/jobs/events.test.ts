import { expect, it } from "vitest";
import { EventParser } from "./events.ts";

const STREAM = 'id: 0\nevent: beat\ndata: {"seq": 0}\n\n: ping\n\nid: 1\nevent: text\ndata: {"seq": 1, "content": "a: b"}\n\n';
const EVENTS = [
  { event: "beat", data: '{"seq": 0}' },
  { event: "text", data: '{"seq": 1, "content": "a: b"}' },
];

it.each([1, 2, 3, 7, 1000])("reads the same events from pieces of %i letters", (size) => {
  const parser = new EventParser();
  const pieces = STREAM.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
  expect(pieces.flatMap((piece) => parser.feed(piece))).toEqual(EVENTS);
});

it("joins lines of data, and leaves out comments", () => {
  expect(new EventParser().feed(": nothing\n\ndata: one\ndata: two\r\n\r\n")).toEqual([{ event: "message", data: "one\ntwo" }]);
});

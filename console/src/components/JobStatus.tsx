import { STATE_WORDS, type JobStatus as Word } from "../jobs/states.ts";
import { Status, type Tone } from "./Status.tsx";

const TONES: Record<Word, Tone> = { PENDING: "busy", RUNNING: "busy", COMPLETED: "ok", FAILED: "bad", CANCELED: "none" };

/** A job's state in a word. */
export function JobStatus({ status }: { status: Word }) {
  return <Status tone={TONES[status]}>{STATE_WORDS[status]}</Status>;
}

import { useState } from "react";
import { asProblem, type Problem } from "../../client/problem.ts";

interface Attempt {
  isBusy: boolean;
  isDone: boolean;
  problem: Problem | undefined;
  /** Do it. */
  run: () => Promise<void>;
}

/** Something that is done once, and may fail. */
export function useAttempt(work: () => Promise<void>): Attempt {
  const [isBusy, setBusy] = useState(false);
  const [isDone, setDone] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const run = async () => {
    setBusy(true);
    setProblem(undefined);
    try {
      await work();
      setDone(true);
    } catch (thrown) {
      setProblem(asProblem(thrown));
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, isDone, problem, run };
}

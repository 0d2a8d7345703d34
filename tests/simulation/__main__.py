"""python -m tests.simulation --seed N [--until K]: run one world and print all that happens in it; with `--worlds W`, many, in silence."""

import argparse
import sys
import time

from tests.simulation.driver import STEPS, run, shortest
from tests.simulation.events import Event


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def report(outcome):
    """Tell a defect, with the shortest list of events that leads to it."""
    tell(f"seed {outcome.seed}, step {outcome.steps}: {outcome.defect}")
    best = shortest(outcome)
    tell(f"shortest list of events for `{best.kind}` (seed {best.seed}): {best.defect}")
    for event in best.events[: best.steps]:
        tell(f"  {event}")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each world")
    parser.add_argument("--until", type=int, help="stop after so many steps")
    parser.add_argument("--events", type=argparse.FileType(), help="a list of events, as it is printed, instead of the seed's own")
    parser.add_argument("--worlds", type=int, help="run so many seeds, from this one on, and print what fails")
    options = parser.parse_args()
    if options.worlds is None:
        events = [Event.read(line) for line in options.events if line.strip()] if options.events else None
        outcome = run(options.seed, events, steps=options.steps, until=options.until, trace=tell)
        tell(f"{outcome.steps} steps, {outcome.jobs} jobs, {outcome.virtual_s:.0f} s: {outcome.defect or 'all is well'}")
        return 1 if outcome.defect else 0
    start, steps, failed = time.perf_counter(), 0, 0
    for seed in range(options.seed, options.seed + options.worlds):
        outcome = run(seed, steps=options.steps)
        steps += outcome.steps
        if outcome.defect:
            failed += 1
            report(outcome)
    tell(f"{steps} steps in {options.worlds} worlds, {time.perf_counter() - start:.1f} s; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

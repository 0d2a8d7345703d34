"""Thousands of jobs while something breaks every few seconds: what was lost, doubled or wrong, and whether the books hold.

Plain answers, streams, jobs that run by themselves, canceled ones, lines of batches, consumers who leave; four nodes, two replicas, and every one
to three seconds a node that is frozen, a worker or a runtime that is killed, a runtime that answers 500, 503 or nonsense, a database whose
connections are killed, which is killed itself, or frozen. All of it follows from the seed. Every client writes down each step before it takes it;
at the end the books must agree with that, every rule of the audit must hold, and nothing may be open.

    .venv/bin/python -m bench.soak [--jobs 2000] [--seed 1] [--figures FILE] [--history FILE]
"""

import argparse
import asyncio
import json
import logging
import tempfile
from pathlib import Path

import structlog

from bench.machine import machine
from tests.faults.soak import soak


def main() -> None:
    """Run it; ends with 1 and says what when something was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="write the figures here too, for docs/reliability.md")
    parser.add_argument("--history", type=Path, help="keep what the clients wrote down")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        found = {"machine": machine()} | asyncio.run(soak(asked.jobs, asked.seed, asked.history or Path(folder) / "history"))
    if asked.figures:
        asked.figures.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

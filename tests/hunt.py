"""Hunts mutants: small defects, put in on purpose; a line tells of each whether anything found it, and how long that took."""

import sys
import time


def hunt(mutants, killed_by):
    """Hunt mutants by name; `killed_by` names what found one, None where nothing did. Answers the exit status: 1 when any survived."""
    survivors = 0
    for name, mutant in mutants.items():
        start = time.monotonic()
        found = killed_by(mutant)
        survivors += found is None
        sys.stdout.write(f"{'killed' if found else 'SURVIVED':8} {time.monotonic() - start:5.1f} s  {name}  [{found}]\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(mutants) - survivors} of {len(mutants)} killed\n")
    return 1 if survivors else 0

"""What the front tells whoever started it."""

import json
import sys


def say(**fields: object) -> None:
    """Print one JSON line for whoever started us."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()

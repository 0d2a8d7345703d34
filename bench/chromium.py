"""The distribution's Chromium, for what looks at the console."""

import os
import shutil

# The shell draws pages like the others, has no windows, and takes a quarter less of a processor.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
HINT = "apt install chromium-headless-shell, or chromium"


def chromium() -> str | None:
    """Find the program that the variable `CHROMIUM` names, or the distribution's; tell its path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)

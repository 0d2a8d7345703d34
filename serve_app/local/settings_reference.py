"""Writes `docs/reference/settings.md` from the settings themselves: `python -m serve_app.local.settings_reference docs/reference/settings.md`."""

import sys
from pathlib import Path

from serve_app.local.setting_names import settings

HEAD = """# Settings

Made by `python -m serve_app.local.settings_reference docs/reference/settings.md`; do not edit.

All are environment variables, read once when a part starts. `gfe up` sets what it decides itself (addresses, folders); an unknown `GFE_…`
name stops the start. Secrets are files, never variables.
"""


def reference() -> str:
    """Write the page."""
    lines = [HEAD, "| Name | Default | Meaning | Read by |", "|---|---|---|---|"]
    for one in settings():
        default = f"`{one.default}`" if one.default else ""
        lines.append(f"| `{one.name}` | {default} | {one.description} | {one.read_by} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())

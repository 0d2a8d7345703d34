"""The systemd unit of a joined machine: it joins at every start of the machine, and again whenever Ray ends."""

import os
import sys
from pathlib import Path

NAME = "gfe-join.service"
UNIT = """[Unit]
Description=GPU-For-Everyone: this machine as a node of {head}
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={python} -P -m serve_app.cli join --invite-file {invite}{options}
Environment=GFE_NODE_HOME={home}
Restart=always
RestartSec=10
TimeoutStopSec=920
KillMode=mixed

[Install]
WantedBy={target}
"""


def folder() -> Path:
    """Where units of this user are: the system's for root."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system")
    return Path.home() / ".config" / "systemd" / "user"


def text(*, head: str, home: Path, invite: Path, options: str) -> str:
    """Write the unit; blanks in paths are written as systemd reads them."""
    target = "multi-user.target" if os.geteuid() == 0 else "default.target"
    return UNIT.format(
        head=head, python=_quoted(sys.executable), invite=_quoted(str(invite)), options=options, home=_quoted(str(home)), target=target
    )


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"' if " " in path else path.replace("%", "%%")


def enable_command() -> str:
    """The command that makes it run now and at every start."""
    scope = "" if os.geteuid() == 0 else "--user "
    return f"systemctl {scope}daemon-reload && systemctl {scope}enable --now {NAME}"

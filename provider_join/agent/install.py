"""The agent at every start of the machine: a systemd unit on Linux, a LaunchAgent on macOS; and away again.

Texts are pure; `Installer` writes and calls. On Windows the agent runs in WSL 2: docs/providers.md has the commands.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from cluster.runtime.models import cache_folder
from provider_join.agent.home import AgentHome
from provider_join.errors import JoinError

UNIT = "gfe-agent.service"
LABEL = "io.gfe.agent"
COMMAND_LIMIT_S = 60.0
SERVICE = """[Unit]
Description=GPU-For-Everyone: this machine shares its GPU
After=network-online.target ollama.service
Wants=network-online.target

[Service]
ExecStart={command}
Environment=GFE_AGENT_HOME={home}
{environment}Restart=always
RestartSec=10
RestartPreventExitStatus=77 78
TimeoutStopSec=90
KillMode=mixed
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writable}
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
LockPersonality=yes
UMask=0077
{system}
[Install]
WantedBy={target}
"""
PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>{label}</string>
  <key>ProgramArguments</key>
  <array>
{arguments}
  </array>
  <key>EnvironmentVariables</key>
  <dict>
{environment}
  </dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <key>ThrottleInterval</key><integer>10</integer>
  <key>StandardErrorPath</key><string>{log}</string>
</dict>
</plist>
"""
PASSED = ("OLLAMA_HOST", "GFE_OLLAMA_URL", "GFE_MODEL_MIRROR", "GFE_MODEL_URLS", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")


class NotInstalled(JoinError):
    """The service cannot be put in place, or was not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is to run. `account` is the operating system's user of a system unit; None: whoever installs it."""

    python: Path
    home: Path
    options: Sequence[str] = ()
    environment: Sequence[tuple[str, str]] = ()
    account: str | None = None

    @property
    def command(self) -> list[str]:
        """The agent's command line."""
        return [str(self.python), "-P", "-m", "serve_app.cli", "agent", *self.options]


def unit_text(service: Service, *, is_system: bool) -> str:
    """Write the systemd unit: nothing but its own folder can be written, and a node that is not wanted is not started again."""
    environment = "".join(f"Environment={_unit_word(f'{name}={value}')}\n" for name, value in service.environment)
    return SERVICE.format(
        command=" ".join(_unit_word(word).replace("$", "$$") for word in service.command), home=_unit_word(str(service.home)), environment=environment,
        writable=" ".join(map(_unit_word, (str(service.home), *([] if service.account else [f"-{cache_folder()}"])))), target="multi-user.target" if is_system else "default.target",
        system=_system_lines(service.account) if is_system else "",
    )  # fmt: skip


def _system_lines(account: str | None) -> str:
    """What a user's own systemd may not set: the account, and that no process of the agent has a privilege of root."""
    return (f"User={account}\n" if account else "") + "CapabilityBoundingSet=\nProtectHostname=yes\nProtectKernelLogs=yes\n"


def _unit_word(text: str) -> str:
    """Write a word as systemd reads it; in a command line, where `$` begins a variable, it is doubled too."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if any(sign in text for sign in " \t;'") else text


def plist_text(service: Service) -> str:
    """Write the LaunchAgent. launchd starts again whatever fails: exit codes 77 and 78 are told as success by the shell around it."""
    wrapped = ["/bin/sh", "-c", '"$@"; code=$?; case $code in 77|78) exit 0;; esac; exit $code', "gfe-agent", *service.command]
    variables = [("GFE_AGENT_HOME", str(service.home)), *service.environment]
    return PLIST.format(
        label=LABEL, arguments="\n".join(f"    <string>{escape(word)}</string>" for word in wrapped),
        environment="\n".join(f"    <key>{escape(name)}</key><string>{escape(value)}</string>" for name, value in variables),
        log=escape(str(service.home / "service.log")),
    )  # fmt: skip


def passed_environment(environment: dict[str, str]) -> list[tuple[str, str]]:
    """Choose what of this shell's environment the service needs too."""
    return [(name, environment[name]) for name in PASSED if environment.get(name)]


@dataclass(frozen=True, slots=True)
class Installer:
    """Puts the service in place. `root` stands before system paths, for tests and images."""

    is_system: bool
    platform: str = sys.platform
    root: Path = Path("/")

    @property
    def path(self) -> Path:
        """Where the service is written.

        Raises:
            NotInstalled: This operating system has neither systemd nor launchd.
        """
        if self.platform == "darwin":
            return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        if self.platform.startswith("linux"):
            return self.root / "etc/systemd/system" / UNIT if self.is_system else Path.home() / ".config" / "systemd" / "user" / UNIT
        raise NotInstalled(
            "this operating system has neither systemd nor launchd",
            "on Windows it runs in WSL 2: docs/providers.md has the commands; or run `gfe agent`",
        )

    def write(self, service: Service) -> Path:
        """Write it.

        Raises:
            NotInstalled: It cannot be written.
        """
        text = plist_text(service) if self.platform == "darwin" else unit_text(service, is_system=self.is_system)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text)
        except OSError as failed:
            hint = "a unit of the system needs root: sudo gfe agent install --system, or leave --system out"
            raise NotInstalled(f"{self.path} cannot be written ({failed.strerror})", hint) from failed
        return self.path

    def start_commands(self) -> list[list[str]]:
        """The commands that make it run, now and at every start."""
        if self.platform == "darwin":
            return [["launchctl", "bootstrap", f"gui/{os.getuid()}", str(self.path)]]
        scope = [] if self.is_system else ["--user"]
        linger = [] if self.is_system else [["loginctl", "enable-linger"]]  # else it ends when its user logs out
        return [["systemctl", *scope, "daemon-reload"], ["systemctl", *scope, "enable", "--now", UNIT], *linger]

    def stop_commands(self) -> list[list[str]]:
        """The commands that end it for good."""
        if self.platform == "darwin":
            return [["launchctl", "bootout", f"gui/{os.getuid()}/{LABEL}"]]
        scope = [] if self.is_system else ["--user"]
        return [["systemctl", *scope, "disable", "--now", UNIT]]

    def remove(self) -> bool:
        """Remove what `write` wrote; False: it was not there."""
        if not self.path.exists():
            return False
        self.path.unlink()
        return True


def run_commands(commands: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Run commands; answer those that could not be run or failed, for a person to run."""
    failed = []
    for command in commands:
        if shutil.which(command[0]) is None:
            failed.append(command)
            continue
        try:
            done = subprocess.run(list(command), capture_output=True, check=False, timeout=COMMAND_LIMIT_S)
        except (OSError, subprocess.TimeoutExpired):
            failed.append(command)
            continue
        if done.returncode:
            failed.append(command)
    return failed


def service_here(home: AgentHome, options: Sequence[str], account: str | None = None) -> Service:
    """Describe this very program as the service.

    Raises:
        NotInstalled: The account does not exist, or the agent's folder is not its own.
    """
    environment = passed_environment(dict(os.environ))
    if account:
        _require_own(home.root, account)
        environment.append(("XDG_CACHE_HOME", str(home.root / "cache")))  # this user's own cannot be written there
    return Service(python=Path(sys.executable), home=home.root, options=options, environment=environment, account=account)


def _require_own(folder: Path, account: str) -> None:
    try:
        user = pwd.getpwnam(account)
    except KeyError:
        raise NotInstalled(f"there is no user `{account}` here", f"sudo useradd --system --create-home {account}") from None
    if folder.stat().st_uid != user.pw_uid:
        raise NotInstalled(f"{folder} is not {account}'s", f"sudo chown -R {account}: {folder}   where {account} can reach it")

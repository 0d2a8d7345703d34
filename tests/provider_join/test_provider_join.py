"""What a joining machine decides before anything runs: the invite, the checks, what Ray is told, the unit."""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import asdict, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import invite as invites
from cluster import processes
from cluster.gpus import gpus_of
from cluster.invite import BadInvite, Invite
from cluster.worker_settings import WorkerSettings, settings_on
from provider_join import doctor, join, service
from provider_join.errors import ClockWrong, HeadUnreachable, NotFit
from provider_join.home import NodeHome

INVITE = Invite(head="10.0.0.1:6379", node="node_1", name="attic", token="f" * 64, ray="2.60.0", python="3.11")
TOLD = WorkerSettings(runtime_url="http://127.0.0.1:8084", public_key="key")


@given(name=st.text(max_size=100), head=st.text(max_size=60))
def test_an_invite_is_read_as_it_was_written(name, head):
    made = replace(INVITE, name=name, head=head)
    assert invites.read(invites.write(made)) == made


def test_an_invite_survives_a_terminal_that_breaks_the_line():
    text = invites.write(INVITE)
    assert invites.read(f" {text[:40]}\n {text[40:]}\r\n") == INVITE


@pytest.mark.parametrize("cut", [1, 5, 9, 40])
def test_half_an_invite_is_told_from_a_whole_one(cut):
    with pytest.raises(BadInvite, match="not whole"):
        invites.read(invites.write(INVITE)[:-cut])


@pytest.mark.parametrize("said", [[], {"head": 1}, asdict(INVITE) | {"head": 1}, asdict(INVITE) | {"more": "x"}, "text"])
def test_an_invite_that_says_something_else_is_refused(said):
    packed = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    with pytest.raises(BadInvite, match="cannot be read"):
        invites.read(f"{invites.PREFIX}{packed}_{zlib.crc32(packed.encode()):08x}")


@pytest.mark.parametrize("text", ["", "gfe_live_x", "gfe_invite_2_abc", invites.PREFIX + "A" * 5000])
def test_something_else_is_no_invite(text):
    with pytest.raises(BadInvite):
        invites.read(text)


def test_an_invites_token_stands_in_no_log():
    assert INVITE.token not in repr(INVITE)


@pytest.mark.parametrize(("ray", "python", "remedy"), [("2.59.0", "3.11", "pip install"), ("2.60.0", "3.12", "install Python 3.11")])
def test_another_version_is_refused_with_what_mends_it(ray, python, remedy):
    with pytest.raises(NotFit) as refused:
        doctor.require_versions(INVITE, ray, python)
    assert remedy in refused.value.hint


def test_a_taken_port_and_too_little_memory_are_refused_with_what_mends_them():
    with pytest.raises(NotFit, match="port 8076") as refused:
        doctor.require_ports([8076, 8080])
    assert "--port-base" in refused.value.hint
    with pytest.raises(NotFit, match="512 MiB"):
        doctor.require_memory(512 * 1024**2)
    doctor.require_memory(None)
    doctor.require_memory(2 * 1024**3)
    assert doctor.free_bytes() > 0


@pytest.fixture
def head_at():
    """A head whose clock goes wrong by so many seconds; answers where it tells the time."""
    servers = []

    def serve(ahead_s):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(401)  # whatever it answers, it tells the time
                self.end_headers()

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + ahead_s, usegmt=True)

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("head_ahead_s", "words"), [(120, "120 s behind|119 s behind|121 s behind"), (-3600, "ahead of the head's")])
def test_a_clock_that_is_not_the_heads_is_refused_with_what_mends_it(head_at, head_ahead_s, words):
    ahead_s = doctor.clock_ahead(head_at(head_ahead_s))
    assert abs(ahead_s + head_ahead_s) < 3
    with pytest.raises(ClockWrong, match=words) as refused:
        doctor.require_clock(ahead_s)
    assert "timedatectl" in refused.value.hint


def test_a_clock_that_is_the_heads_is_fine_and_a_head_that_tells_no_time_is_not_guessed(head_at):
    doctor.require_clock(doctor.clock_ahead(head_at(0)))
    assert doctor.clock_ahead("127.0.0.1:1") is None
    assert doctor.clock_ahead("") is None


def test_a_taken_port_is_seen():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not doctor.is_free("127.0.0.1", other.getsockname()[1])
        assert doctor.reach(f"127.0.0.1:{other.getsockname()[1]}") == "127.0.0.1"


@pytest.mark.parametrize("head", ["127.0.0.1:1", "nowhere", "127.0.0.1:x"])
def test_a_head_that_does_not_answer_is_told(head):
    with pytest.raises(HeadUnreachable, match="does not answer"):
        doctor.reach(head)


def planned(tmp_path, **changes):
    fields = {
        "invite": INVITE,
        "home": NodeHome(tmp_path),
        "ports": join.Ports(),
        "address": "10.0.0.2",
        "runtime_url": None,
        "slots": None,
    }
    return join.Plan(**fields | {"simulated_gpus": None} | changes)


def test_ray_gets_pinned_ports_labels_and_no_secret(tmp_path):
    plan = planned(tmp_path, invite=replace(INVITE, name="Ada's old PC, 2nd floor"), slots=3)
    command = join.command_of(plan, Path("/python"))
    assert INVITE.token not in " ".join(command)
    assert command[command.index("--labels") + 1] == "gfe.io/node=node_1,gfe.io/name=Ada-s-old-PC--2nd-floor,gfe.io/role=worker"
    assert command[command.index("--num-cpus") + 1] == "0"
    environment = join.environment_of(
        plan, {"PATH": "/bin", "GFE_API_KEY": "secret", "RAY_ADDRESS": "elsewhere", "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert "secret" not in environment.values()
    assert INVITE.token not in environment.values()
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "ray_token")
    assert (environment["PATH"], "RAY_ADDRESS" in environment, "PYTHONDONTWRITEBYTECODE" in environment) == ("/bin", False, False)
    here = settings_on(TOLD, environment)
    assert (here.runtime_url, here.host, here.port, here.slots) == ("http://127.0.0.1:8083", "10.0.0.2", 8082, 3)


def test_the_heads_own_worker_takes_what_the_head_says():
    assert settings_on(TOLD, {"PATH": "/bin", "GFE_HOME": "x"}) is TOLD


@pytest.mark.parametrize(("name", "label"), [("---", "node"), ("ü", "node"), ("a" * 80, "a" * 63), ("-x.", "x")])
def test_names_become_labels_that_ray_takes(tmp_path, name, label):
    assert join._label(name) == label


def test_what_a_machine_allows_is_told_to_its_worker(tmp_path):
    told = settings_on(TOLD, join.environment_of(planned(tmp_path), {"GFE_NODE_PULL": "1", "GFE_NODE_PARTIAL": "0"}))
    assert (told.may_pull, told.allows_partial) == (True, False)
    assert settings_on(TOLD, join.environment_of(planned(tmp_path), {})).may_pull is False


def test_where_a_machine_stands_is_told_to_its_worker(tmp_path):
    assert settings_on(TOLD, join.environment_of(planned(tmp_path), {"GFE_ZONE": "attic"})).zone == "attic"
    assert settings_on(TOLD, join.environment_of(planned(tmp_path), {})).zone == ""


def test_simulated_gpus_reach_the_worker(tmp_path):
    environment = join.environment_of(planned(tmp_path, simulated_gpus="A:100:1:8.6"), {})
    assert gpus_of(settings_on(TOLD, environment).simulated_gpus).read()[0].name == "A"


def test_the_unit_starts_again_and_quotes_paths(tmp_path):
    text = service.text(head="10.0.0.1:6379", home=Path("/a b/node"), invite=Path("/a b/invite"), options=" --slots 2")
    assert 'join --invite-file "/a b/invite" --slots 2' in text
    assert "Restart=always" in text
    assert "%%" in service.text(head="h", home=Path("/50%"), invite=Path("/i"), options="")


def gfe(*words, **options):
    return subprocess.run([sys.executable, "-P", "-m", "serve_app.cli", *words], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    ("words", "said", "given"),
    [
        (["join"], "no invite is named", None),
        (["join", "--invite", "x", "--invite-file", "y"], "two invites are named", None),
        (["join", "--invite", "nonsense"], "this is no invite", None),
        (["join", "--invite", "-"], "this is no invite", "nonsense\n"),
        (["join", "--invite-file", "/nowhere/invite"], "No such file", None),
        (["leave"], "this machine has not joined", None),
    ],
)
def test_the_commands_refuse_with_a_sentence_and_a_hint(tmp_path, words, said, given):
    done = gfe(*words, env={"GFE_NODE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, input=given)
    assert done.returncode == 1
    assert said in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loopback_platform_says_how_machines_could_join(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ports.json").write_text('{"gcs": 6379}')
    (tmp_path / "run" / "node_address.json").write_text("null")
    done = gfe("admin", "invite", "--name", "x", env={"GFE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert (done.returncode, "GFE_NODE_ADDRESS" in done.stderr) == (1, True)


@pytest.mark.parametrize(("more", "is_refused"), [((), True), (("--accept-one-user",), False)])
def test_nobody_is_invited_while_ray_runs_as_the_ledgers_user_unless_that_is_accepted(tmp_path, more, is_refused):
    this = processes.process_of(os.getpid())
    parts = [{"name": name, "pid": this.pid} for name in ("ledger", "ray")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ports.json").write_text('{"gcs": 6379, "dashboard_agent": 8079}')
    (tmp_path / "run" / "node_address.json").write_text('"10.0.0.1"')
    state = {"supervisor_pid": this.pid, "supervisor_start": this.start, "parts": parts}
    (tmp_path / "run" / "state.json").write_text(json.dumps(state))
    done = gfe("admin", "invite", "--name", "x", *more, env={"GFE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 1  # there is no ledger that would register it
    said = "trusted nodes need the ledger under its own user; see docs/operations.md" in done.stderr
    assert (said, "--accept-one-user" in done.stderr) == (is_refused, is_refused)
    assert "gfe_invite" not in done.stdout


def test_joining_does_not_load_ray_into_the_program_that_waits():
    program = "import sys, provider_join.cli, provider_join.join; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0

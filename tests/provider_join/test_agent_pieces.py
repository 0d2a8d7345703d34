"""What an agent is made of, piece by piece: its home, keys, outbox, checks, sentences, service."""

import json
import os
import plistlib
import pwd
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cluster.attempt_log import encode
from cluster.edge import protocol as wire
from cluster.jobs import Admitted, End, EndReason, JobKind, Text, Usage
from cluster.nodes import Gpu, Node, NodeKind, OfferedModel
from cluster.receipts import Receipt, is_signed_by, text_sha256
from cluster.runtime.dialect import NO_MODEL
from provider_join.agent import doctor, runtime
from provider_join.agent.asking import allowed, attempt_of
from provider_join.agent.enroll import check_socket_url, check_url, origin_of
from provider_join.agent.home import AgentHome, Enrollment, write_closed
from provider_join.agent.install import Installer, NotInstalled, Service, plist_text, run_commands, service_here, unit_text
from provider_join.agent.inventory import facts_of
from provider_join.agent.keys import AgentKey
from provider_join.agent.log_file import MAX_BYTES, LogFile, last_lines
from provider_join.agent.outbox import KEPT_S, Outbox, StoredLog
from provider_join.agent.session import Held
from provider_join.agent.telling import in_words, live_line, reasons
from provider_join.errors import EnrollRefused, NotFit

USAGE = Usage(prompt_tokens=3, completion_tokens=5, counted_by="provider")
LINES = [
    encode(event)
    for event in (
        Admitted(seq=0, node="n"),
        Text(seq=1, content="Hällo\n", tokens=1),
        End(seq=2, reason=EndReason.STOP, usage=USAGE),
    )
]
STATE = {
    "node": "node_1", "version": "0.1.0", "platform": "https://gpu.example.org", "connected": True, "connected_s": 5, "next_try_s": None,
    "problem": "", "paused": "", "leaving": False, "healthy": True, "reason": "", "runtime": "ollama 0.18.0", "slots": 2, "running": 0,
    "models": ["m:1b"], "not_offered": {}, "gpus": [], "jobs_done": 3, "jobs_failed": 0, "tokens": 99, "tokens_per_s": 1.5,
    "unacknowledged": 0,
}  # fmt: skip


@pytest.fixture
def home(tmp_path):
    made = AgentHome(tmp_path / "agent")
    made.make()
    return made


def held(job="job_1", lines=LINES):
    return Held(job=job, lease=1, delivered=0, model_digest="d", log=StoredLog(list(lines)))


# --- home and keys ---------------------------------------------------------------------------------------------------------------------


def test_what_is_secret_is_readable_by_its_owner_alone(home):
    AgentKey.read_or_make(home.key)
    Outbox(home.outbox).put(held())
    for path in (home.key, *home.outbox.iterdir()):
        assert path.stat().st_mode & 0o177 == 0
    assert home.root.stat().st_mode & 0o077 == 0


def test_a_key_is_made_once_and_signs_for_its_public_half(home):
    key = AgentKey.read_or_make(home.key)
    assert AgentKey.read_or_make(home.key).public_text == key.public_text
    signature, public = (__import__("base64").urlsafe_b64decode(text + "==") for text in (key.sign("a", "b"), key.public_text + "="[:0]))
    Ed25519PublicKey.from_public_bytes(public).verify(signature, b"a\nb")


def test_a_key_that_others_may_read_is_not_used(home):
    AgentKey.read_or_make(home.key)
    home.key.chmod(0o644)
    with pytest.raises(NotFit, match="others may read"):
        AgentKey.read(home.key)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_broken_key_is_told_with_what_to_do(home, content):
    write_closed(home.key, content)
    with pytest.raises(NotFit) as broken:
        AgentKey.read(home.key)
    assert "gfe agent --code" in broken.value.hint


def test_a_receipt_is_of_all_that_was_delivered(home):
    key = AgentKey.read_or_make(home.key)
    end = End(seq=2, reason=EndReason.LENGTH, usage=USAGE)
    made = key.receipt("node_1", held(), end, "content", "thinking")
    said = Receipt(
        job="job_1", lease=1, node="node_1", model_digest="d", text_sha256=text_sha256("content", "thinking"), prompt_tokens=3,
        completion_tokens=5, reason="length",
    )  # fmt: skip
    raw = __import__("base64").urlsafe_b64decode(key.public_text + "=")
    assert is_signed_by(said, made.signature, raw)


def test_a_new_key_becomes_this_nodes_when_the_platform_has_answered(home):
    key = AgentKey.read_or_make(home.next_key)
    home.keep_enrollment(Enrollment(node="node_1", url="http://127.0.0.1", ws_url="ws://127.0.0.1"))
    assert AgentKey.read(home.key).public_text == key.public_text
    assert not home.next_key.exists()
    assert home.enrollment().node == "node_1"


def test_a_very_long_home_gets_its_socket_elsewhere(tmp_path):
    long = AgentHome(tmp_path / ("x" * 120))
    assert len(str(long.socket).encode()) < 107
    assert long.socket != AgentHome(tmp_path / ("y" * 120)).socket


@pytest.mark.parametrize("url", ["ftp://x", "gpu.example.org", "", "https://", "http://gpu.example.org"])
def test_an_address_that_is_none_or_not_encrypted_is_refused(url):
    with pytest.raises(EnrollRefused):
        check_url(url)


def test_a_platform_on_this_machine_may_be_plain_and_an_encrypted_one_names_no_plain_socket():
    assert check_url("http://127.0.0.1:8080/") == "http://127.0.0.1:8080"
    assert origin_of("HTTPS://GPU.Example.org:8443/x") == "https://gpu.example.org:8443"
    assert check_socket_url("ws://127.0.0.1:8090/", "http://127.0.0.1:8080")
    with pytest.raises(EnrollRefused):
        check_socket_url("ws://gpu.example.org/", "https://gpu.example.org")


# --- outbox ------------------------------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_read_again_as_it_was(home):
    outbox = Outbox(home.outbox)
    outbox.put(held("job_a"))
    outbox.put(held("job_b"))
    found = list(Outbox(home.outbox).read())
    assert {one.job for one in found} == {"job_a", "job_b"}
    assert all(one.log.lines == LINES and one.log.has_ended and one.produced == 1 for one in found)
    outbox.remove("job_a", 1)
    outbox.remove("job_a", 1)
    assert [one.job for one in outbox.read()] == ["job_b"]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"nonsense", b'{"job":"j","lease":1,"delivered":0,"model_digest":"d"}\n' + LINES[0]])
def test_a_broken_file_is_removed_and_does_no_harm(home, content):
    outbox = Outbox(home.outbox)
    outbox.put(held())
    (home.outbox / "job_x.1.ended").write_bytes(content)
    assert [one.job for one in outbox.read()] == ["job_1"]
    assert not (home.outbox / "job_x.1.ended").exists()


def test_what_nobody_asked_for_in_ten_minutes_is_gone(home):
    outbox = Outbox(home.outbox)
    outbox.put(held())
    old = time.time() - KEPT_S - 1
    os.utime(home.outbox / "job_1.1.ended", (old, old))
    assert outbox.forget_old() == [("job_1", 1)]
    assert list(outbox.read()) == []


def test_of_very_many_the_newest_are_told(home):
    outbox = Outbox(home.outbox)
    for n in range(wire.MAX_RESUMED + 5):
        outbox.put(held(f"job_{n}"))
    assert len(list(outbox.read())) == wire.MAX_RESUMED


# --- what reaches the runtime --------------------------------------------------------------------------------------------------------------


def test_what_would_move_the_owners_models_does_not_reach_the_runtime():
    asked = {
        "messages": [], "options": {"temperature": 1, "num_ctx": 5, "num_gpu": 1, "use_mmap": True, "num_predict": 9}, "keep_alive": -1,
        "model": "other", "stream": False, "truncate": True, "shift": True, "raw": True, "insecure": True, "_debug_render_only": True,
    }  # fmt: skip
    assert allowed(JobKind.CHAT, asked) == {"messages": [], "options": {"temperature": 1}}
    assert allowed(JobKind.EMBED, {"input": "a", "options": {"num_ctx": 1}}) == {"input": "a"}
    assert allowed(JobKind.CHAT, {"messages": [], "options": "no"}) == {"messages": [], "options": {}}


def test_an_offer_is_read_as_an_attempt_with_what_was_delivered():
    delivered = (Admitted(seq=0, node="a"), Text(seq=1, content="x", tokens=1))
    offer = wire.Offer(
        job="job_1", lease=2, kind=JobKind.CHAT, model="m", model_digest="d", request={"messages": []}, max_tokens=7,
        deadline=wire.OfferDeadlines(first_token=1, idle=2, total=3), delivered=wire.delivered_lines(delivered),
    )  # fmt: skip
    attempt = attempt_of(offer, "node_1")
    assert (attempt.job, attempt.number, attempt.node, attempt.delivered, attempt.max_tokens) == ("job_1", 2, "node_1", delivered, 7)
    assert (attempt.deadlines.first_token_s, attempt.deadlines.idle_s, attempt.deadlines.total_s) == (1, 2, 3)


def node_of(**more):
    values = {
        "id": "n",
        "name": "n",
        "kind": NodeKind.TRUSTED,
        "url": "",
        "slots": 2,
        "running": 0,
        "models": (),
        "runtime": "ollama 0.18.0",
    }
    return Node(**values | more)


def test_a_machine_is_described_by_what_fits_into_a_frame():
    model = OfferedModel(name="ä" * 190, digest="d" * 64, size_bytes=1, context_tokens=4096, is_loaded=False, manifest="m" * 64)
    many = tuple(replace(model, name=f"{n}{model.name}") for n in range(500))
    facts = facts_of(node_of(models=many), "")
    assert len(facts.inventory.text().encode()) <= wire.MAX_FRAME_BYTES
    assert 100 < len(facts.inventory.models) < 500
    assert (facts.inventory.models[0].digest, facts.inventory.models[0].weights_sha256) == ("m" * 64, "d" * 64)


def test_what_does_not_fit_into_memory_is_not_offered_and_a_pause_leaves_no_slot_free():
    model = OfferedModel(name="big", digest="d", size_bytes=1, context_tokens=1, is_loaded=False, fits=False)
    assert facts_of(node_of(models=(model,)), "").inventory.models == []
    assert facts_of(node_of(models=(replace(model, fits=True),)), "paused by its owner").slots_free == 0
    odd = Gpu(uuid="\ud83d", name="", total_bytes=5, free_bytes=1, temperature_c=70)
    facts = facts_of(node_of(gpus=(odd,), is_healthy=False, reason="no model yet"), "")
    assert wire.from_agent(facts.inventory.text()).gpus[0].name == "unknown"
    assert (facts.inventory.paused, facts.loads[0].temp_c) == ("no model yet", 70)


# --- checks --------------------------------------------------------------------------------------------------------------------------------


def test_a_runtime_that_others_reach_is_refused_with_what_closes_it():
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(NotFit, match=r"127\.0\.0\.2") as refused:
            doctor.require_private(f"http://127.0.0.1:{port}", ["127.0.0.3", "127.0.0.2"])
        assert "OLLAMA_HOST=127.0.0.1" in refused.value.hint
        doctor.require_private(f"http://127.0.0.1:{port}", ["127.0.0.3"])


def test_own_addresses_are_those_that_others_could_reach():
    assert all(not one.startswith("127.") and one != "::1" for one in doctor.own_addresses())


@pytest.mark.parametrize("name", ["OLLAMA_HOST", "GFE_OLLAMA_URL"])
def test_an_ollama_on_another_machine_is_not_offered(name):
    with pytest.raises(NotFit, match="not on this machine"):
        runtime.find({name: "http://192.0.2.7:11434"})


def test_without_ollama_and_without_the_embedded_runtime_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(runtime, "MODULE", "no_such_module")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotFit, match="not installed") as refused:
        runtime.find({"OLLAMA_HOST": f"127.0.0.1:{port}"})
    assert "gpu-for-everyone[local]" in refused.value.hint


# --- sentences ---------------------------------------------------------------------------------------------------------------------------


def test_nothing_in_the_way_has_no_reasons():
    assert reasons(STATE, None) == []
    assert reasons(STATE, {"state": "active", "tier": "verified", "strikes": 0}) == []


@pytest.mark.parametrize(
    ("state", "said", "words"),
    [
        ({"connected": False, "problem": "the platform does not answer"}, None, "not connected"),
        ({"paused": "it runs on battery"}, None, "it runs on battery"),
        ({"healthy": False, "reason": NO_MODEL}, None, "no model yet: pull one"),
        ({"models": []}, None, "pull a smaller one"),
        ({"not_offered": {"big:70b": "needs 40 GiB"}}, None, "big:70b"),
        ({"running": 2}, None, "2 slots"),
        ({}, {"state": "quarantined"}, "failed checks"),
        ({}, {"state": "paused"}, "console"),
        ({}, {"strikes": 1}, "1 time;"),
        ({}, {"tier": "probation"}, "probation"),
        ({}, {"reasons": ["Nobody asked for its models today."]}, "Nobody asked"),
    ],
)
def test_each_reason_for_no_jobs_is_one_sentence(state, said, words):
    (reason,) = reasons(STATE | state, said)
    assert words in reason
    assert reason.endswith(".")


def test_the_live_line_tells_connection_jobs_speed_and_earnings():
    line = live_line(STATE, "1.25")
    assert line == "connected · 0 of 2 slots · 1.5 tokens/s · 3 jobs done · earned today 1.25"
    assert "next try in 7 s" in live_line(STATE | {"connected": False, "next_try_s": 7}, None)
    assert "paused: too hot" in live_line(STATE | {"paused": "too hot"}, None)


def test_the_status_names_what_the_platform_says_when_it_says_something():
    told = in_words(STATE, {"node_id": "node_1", "state": "active", "earned_today": "0.50", "strikes": 0})
    assert "earned today   0.50" in told
    assert "gpus           none that a driver shows" in in_words(STATE, None)


# --- the log -----------------------------------------------------------------------------------------------------------------------------


def test_a_log_stays_small_and_its_end_is_read_over_both_files(tmp_path):
    path = tmp_path / "agent.log"
    log = LogFile(path)
    for n in range(3000):
        log.write(f"{n} {'x' * 1000}\n")
    log.flush()
    assert path.stat().st_size + path.with_suffix(".log.1").stat().st_size < 2 * MAX_BYTES + 4000
    assert [line.split()[0] for line in last_lines(path, 3)] == ["2997", "2998", "2999"]


# --- the service ---------------------------------------------------------------------------------------------------------------------------


def service(**more):
    return Service(
        **{
            "python": Path("/opt/my gfe/bin/python"),
            "home": Path("/home/me/.gfe/agent"),
            "options": ("--share", "50%", "--schedule", "22:00-08:00"),
        }
        | more
    )


def directives(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("is_system", [True, False])
def test_a_unit_confines_the_agent_and_does_not_start_again_what_is_not_wanted(is_system):
    said = directives(unit_text(service(account="gpu" if is_system else None), is_system=is_system))
    assert said["ExecStart"] == '"/opt/my gfe/bin/python" -P -m serve_app.cli agent --share 50%% --schedule 22:00-08:00'
    assert said["RestartPreventExitStatus"] == "77 78"
    assert (said["NoNewPrivileges"], said["ProtectSystem"], said["ProtectHome"]) == ("yes", "strict", "read-only")
    assert said["ReadWritePaths"].split()[0] == "/home/me/.gfe/agent"
    assert said["WantedBy"] == ("multi-user.target" if is_system else "default.target")
    assert said.get("User") == ("gpu" if is_system else None)
    assert "--code" not in said["ExecStart"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here to read its unit")
def test_systemd_reads_the_unit(tmp_path):
    unit = tmp_path / "gfe-agent.service"
    unit.write_text(unit_text(service(python=Path("/usr/bin/env")), is_system=True))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr
    assert "Failed to parse" not in done.stderr


def test_signs_that_systemd_reads_are_escaped_where_it_reads_them():
    text = unit_text(service(options=("--models", "a$b"), environment=(("HTTPS_PROXY", "http://a:$%@h:1"),)), is_system=False)
    assert "--models a$$b\n" in text
    assert "Environment=HTTPS_PROXY=http://a:$%%@h:1\n" in text


def test_a_service_of_another_account_needs_a_folder_of_its_own(home):
    mine = pwd.getpwuid(os.getuid()).pw_name
    made = service_here(home, (), mine)
    assert ("XDG_CACHE_HOME", str(home.root / "cache")) in made.environment
    assert directives(unit_text(made, is_system=True))["ReadWritePaths"] == str(home.root)
    other = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.getuid())
    with pytest.raises(NotInstalled, match=f"is not {other}'s"):
        service_here(home, (), other)
    with pytest.raises(NotInstalled, match="no user"):
        service_here(home, (), "no-such-user-here")


def test_a_launch_agent_is_a_property_list_that_stops_at_77(tmp_path):
    said = plistlib.loads(plist_text(service(home=tmp_path, environment=(("OLLAMA_HOST", "127.0.0.1:1<2"),))).encode())
    assert said["EnvironmentVariables"] == {"GFE_AGENT_HOME": str(tmp_path), "OLLAMA_HOST": "127.0.0.1:1<2"}
    shell = said["ProgramArguments"][:4]
    for code, told in ((77, 0), (78, 0), (1, 1), (0, 0)):
        assert subprocess.run([*shell, "sh", "-c", f"exit {code}"], check=False).returncode == told
    assert said["ProgramArguments"][4:] == service().command


def test_installing_writes_the_file_and_uninstalling_removes_it(tmp_path):
    installer = Installer(is_system=True, platform="linux", root=tmp_path)
    path = installer.write(service())
    assert path == tmp_path / "etc/systemd/system/gfe-agent.service"
    assert installer.start_commands()[-1] == ["systemctl", "enable", "--now", "gfe-agent.service"]
    assert installer.remove()
    assert not installer.remove()


def test_a_service_without_a_manager_is_refused_with_where_to_read_on():
    with pytest.raises(NotInstalled) as refused:
        Installer(is_system=False, platform="win32").write(service())
    assert "providers.md" in refused.value.hint


def test_commands_that_fail_are_told_to_be_run_by_hand():
    assert run_commands([["true"], ["false"], ["no-such-command-here"]]) == [["false"], ["no-such-command-here"]]


# --- the control socket ----------------------------------------------------------------------------------------------------------------


def test_a_home_without_an_agent_has_nobody_to_ask(home):
    from provider_join.agent.control import NotRunning, ask

    with pytest.raises(NotRunning):
        ask(home.socket, "status")


def test_what_is_asked_is_answered_over_the_socket(home):
    import asyncio

    from provider_join.agent.control import Control, ask

    said, stop, started = [], asyncio.Event(), threading.Event()

    async def answer(what):
        said.append(what)
        return {"did": what}

    async def serve():
        loops.append(asyncio.get_running_loop())
        control = Control(home.socket, answer)
        await control.start()
        started.set()
        await stop.wait()
        await control.aclose()

    loops = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(30)
        assert home.socket.stat().st_mode & 0o077 == 0
        assert ask(home.socket, "status") == {"did": "status"}
        with socket.socket(socket.AF_UNIX) as broken:
            broken.connect(str(home.socket))
            broken.sendall(b"nonsense\n")
            assert broken.recv(10) == b""
        assert ask(home.socket, "pause") == {"did": "pause"}
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
    assert said == ["status", "pause"]
    assert json.dumps(said)

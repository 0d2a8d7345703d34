"""A whole installation: what the README promises, what a killed part costs, what is left behind."""

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial

import openai
import pytest

from cluster import processes
from serve_app.local import client
from serve_app.local.rotating import ROTATIONS
from tests.e2e.conftest import GFE, MODEL
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]

LEFT_LIMIT_S = 15
STOP_LIMIT_S = 15


def openai_client(installation) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{installation.report['api_url']}/v1", api_key=installation.report["api_key"], max_retries=0)


def test_the_first_start_tells_where_everything_is(installation):
    sys.stdout.write(f"the first start: {installation.first_start_s:.1f} s\n")
    report = installation.report
    assert {"api_url", "api_key", "console_url", "dashboard_url", "guard_url", "agent_url", "home", "supervisor_pid", "parts"} <= set(
        report
    )
    assert report["home"] == str(installation.home.root)
    assert {part["name"]: part["state"] for part in report["parts"]} == {
        "runtime": "running", "postgres": "running", "ray": "running", "upgrade": "done", "bootstrap": "done", "ledger": "running",
        "edge": "running", "serve": "running", "auditor": "running", "guard": "running",
    }  # fmt: skip
    assert report["api_key"].startswith("gfe_live_")


def test_the_printed_curl_line_is_answered_by_the_model_and_charged(green):
    shown = green.gfe("up").stdout
    line = next(line for line in shown.splitlines() if line.startswith("curl "))
    done = subprocess.run(["sh", "-c", f"{line} -sS"], capture_output=True, text=True, timeout=120, check=True)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"].strip()
    assert Decimal(answer["usage"]["cost"]) == Decimal("1.00")
    assert answer["usage"]["completion_tokens"] > 0


def test_the_openai_package_streams_and_the_job_is_on_record_with_its_cost(green):
    chunks = list(
        openai_client(green).chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count to five"}],
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip()
    usage = chunks[-1].usage.model_dump()
    status, job = green.ask(f"/api/computing/jobs/{usage['job']}/")
    assert status == 200
    assert job["status"] == "COMPLETED"
    assert Decimal(str(job["cost"])) == Decimal(usage["cost"])


def test_chat_in_the_terminal_answers_and_the_wallet_shows_the_difference(green):
    before = green.balance()
    done = green.gfe("chat", "Say hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    status, answer = green.chat()
    assert status == 200
    wait_for(lambda: green.open_holds() == 0, 30, lambda: "a hold stays open")
    assert before - green.balance() == Decimal("1.00") + Decimal(answer["usage"]["cost"])
    green.require_books()


def test_a_second_up_says_that_it_is_up_and_shows_the_same(green):
    done = green.gfe("up", "--detach", "--json")
    assert done.returncode == 0
    assert "already up" in done.stderr
    shown = json.loads(done.stdout)
    assert (shown["api_url"], shown["api_key"]) == (green.report["api_url"], green.report["api_key"])


def test_a_part_is_started_anew_while_others_are_served(green):
    before = green.pid_of("ledger")
    with ThreadPoolExecutor(1) as pool:
        restarting = pool.submit(green.json_of, "restart", "ledger")
        answers = [green.chat()[0]]
        while not restarting.done():
            answers.append(green.chat()[0])
        assert restarting.result()["took_s"]["ledger"] > 0
    assert green.pid_of("ledger") != before
    assert {*answers, green.chat()[0]} == {200}


def test_logs_show_each_part(green):
    done = green.gfe("logs", "ledger")
    assert done.returncode == 0
    assert "ledger_starting" in done.stdout
    unknown = green.gfe("logs", "nothing")
    assert unknown.returncode == 1
    assert "hint: known:" in unknown.stderr


def test_five_credits_serve_exactly_five_of_twenty_requests_at_once(green, tmp_path):
    key = poor_consumer(green, tmp_path, "5.00")
    with ThreadPoolExecutor(20) as pool:
        statuses = sorted(status for status, _ in pool.map(lambda _: green.chat(key=key), range(20)))
    assert statuses == [200] * 5 + [402] * 15
    wait_for(lambda: green.open_holds() == 0, 30, lambda: "a hold stays open")
    status, refused = green.chat(key=key)
    assert status == 402
    assert "0.00" in json.dumps(refused)
    green.require_books()


def poor_consumer(installation, tmp_path, credits_: str) -> str:
    """Make another consumer with so many credits; answer their key."""
    folder = tmp_path / "secrets"
    shutil.copytree(installation.home.secrets, folder)
    (folder / "first_api_key").unlink()
    environment = {"GFE_SECRETS_DIR": str(folder), "GFE_LEDGER_SOCKET": str(tmp_path / "none"), "GFE_WELCOME_CREDITS": credits_}
    done = installation.gfe("ledger", "bootstrap", "--username", f"poor{time.monotonic_ns()}", env=environment)
    assert done.returncode == 0, done.stderr
    return (folder / "first_api_key").read_text().strip()


@pytest.mark.parametrize("name", ["ledger", "postgres", "replica", "worker", "haproxy", "model", "dispatcher"])
def test_a_killed_part_comes_back_by_itself_and_costs_nobody_anything(green, name):
    assert green.is_served()  # a model child exists
    victim = processes.process_of(green.pid_of(name))
    processes.send(victim, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: not processes.is_alive(victim), 5, lambda: "it does not die")
    wait_for(lambda: green.is_served() and is_replaced(green, name, victim.pid), 60, lambda: f"not back: {green.status()}")
    assert time.monotonic() - began <= 60
    green.require_books()


def is_replaced(installation, name: str, pid: int) -> bool:
    """Green, and another process does the work of the killed one."""
    state = installation.status()
    now = {part["name"]: part["pid"] for part in state["parts"]} | {
        child["name"]: child["pid"] for part in state["parts"] for child in part["children"]
    }
    return state["ready"] and now.get(name) not in (None, pid)


def test_a_model_killed_in_mid_answer_costs_no_word_and_one_charge(green):
    """The machine's model dies and comes back; the answer goes on in its middle, and is the unbroken one."""
    assert green.is_served()
    before = green.balance()

    def answer(strikes: bool) -> tuple[str, str]:
        model = processes.process_of(green.pid_of("model"))
        stream = openai_client(green).chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "Tell me a very long story"}], max_tokens=120, stream=True, temperature=0
        )
        text = ""
        for number, chunk in enumerate(stream.parse()):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            if strikes and number == 3:
                processes.send(model, signal.SIGKILL)
        return text, stream.headers["X-GFE-Job"]

    (unbroken, _), (text, job) = answer(strikes=False), answer(strikes=True)
    assert text == unbroken
    wait_for(lambda: green.open_holds() == 0, 60, lambda: "the hold stays open")
    _, record = green.ask(f"/api/computing/jobs/{job}/")
    assert (record["status"], record["attempts"] > 1, record["cost"]) == ("COMPLETED", True, "1.00")
    assert before - green.balance() == 2
    green.require_books()


def test_sigkill_of_the_supervisor_leaves_nothing_and_the_second_start_takes_new_secrets(green):
    everyone = {*green.processes(), *processes.descendants(green.status()["supervisor_pid"])}
    assert len(everyone) > 10
    processes.send(processes.process_of(green.status()["supervisor_pid"]), signal.SIGKILL)
    left = processes.wait_gone(everyone, LEFT_LIMIT_S)
    assert [processes.command_of(process.pid) for process in left] == []
    assert green.processes() == ()
    before, token = green.report, (green.home.ray_secrets / "ray_token").read_text()
    rotated = green.gfe("admin", "rotate-secret", *ROTATIONS)
    assert rotated.returncode == 0, rotated.stderr
    assert (green.home.ray_secrets / "ray_token").read_text() != token
    sys.stdout.write(f"the second start: {green.up():.1f} s\n")
    assert (green.report["api_url"], green.report["api_key"]) == (before["api_url"], before["api_key"])
    assert green.is_served()
    green.require_books()


@pytest.mark.nightly
def test_two_installations_answer_side_by_side_and_ctrl_c_ends_the_one_in_the_foreground(green, new_installation):
    other = new_installation(24000)  # the same wish: it gets other ports
    command = [str(GFE), "up", "--json", "--port-base", str(other.port_base)]
    # As in a terminal: whoever is started in the background ignores Ctrl-C, and hands that on.
    as_in_a_terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    foreground = subprocess.Popen(command, env=other.environment, stdout=subprocess.PIPE, text=True, cwd="/", preexec_fn=as_in_a_terminal)  # noqa: PLW1509
    try:
        other.report = json.loads(foreground.stdout.readline())
        assert other.report["api_url"] != green.report["api_url"]
        assert other.is_served()
        assert green.is_served()
        assert other.chat(key=green.report["api_key"])[0] == 401
        began = time.monotonic()
        foreground.send_signal(signal.SIGINT)
        foreground.wait(STOP_LIMIT_S + 5)
        assert time.monotonic() - began <= STOP_LIMIT_S
        assert other.processes() == ()
        assert not client.is_up(other.home)
        assert green.is_served()
    finally:
        foreground.kill()
        foreground.wait()
        foreground.stdout.close()

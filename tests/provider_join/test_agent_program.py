"""`gfe agent` as its owner runs it: the program in a process of its own, its commands, its exit codes."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from cluster.edge import protocol as wire
from provider_join.agent.home import AgentHome
from tests import waiting
from tests.provider_join.scripted_platform import scripted_platform
from tests.scripted_models import fake, words_of
from tests.scripted_runtime import Script, serve

ROOT = Path(__file__).parents[2]
CODE = "gfe_enroll_" + "a" * 43
LIMIT_S = 90
until = partial(waiting.until, limit_s=LIMIT_S)


@pytest.fixture
async def platform():
    async with scripted_platform() as running:
        yield running


@pytest.fixture
async def runtime():
    script = Script()
    script.models = {"m:1b": fake("m:1b")}
    runner, script.url = await serve(script)
    yield script
    await runner.cleanup()


class Machine:
    """A home, and the programs that run in it."""

    def __init__(self, folder, runtime_url):
        self.home = AgentHome(folder)
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder.parent), "GFE_AGENT_HOME": str(folder), "PYTHONPATH": str(ROOT),
            "OLLAMA_HOST": runtime_url.removeprefix("http://"),
        }  # fmt: skip

    def start(self, *arguments, **more):
        pipes = {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        command = [sys.executable, "-P", "-m", "serve_app.cli", "agent", *arguments]
        return asyncio.create_subprocess_exec(*command, env=self.environment | more, cwd=self.home.root.parent, **pipes)

    async def run(self, *arguments, **more):
        process = await self.start(*arguments, **more)
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        return process.returncode, out.decode(), err.decode()

    @contextlib.asynccontextmanager
    async def running(self, *arguments):
        process = await self.start(*arguments)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
def machine(tmp_path, runtime):
    return Machine(tmp_path / "agent", runtime.url)


def is_online(platform):
    return platform.inventories and platform.inventories[-1].models and not platform.inventories[-1].paused


async def test_a_code_makes_a_node_that_is_asked_told_and_stopped(platform, runtime, machine):
    async with machine.running("--url", platform.url, "--code", CODE, "--share", "2", "--name", "attic") as process:
        await until(lambda: is_online(platform), says="the node to be online")
        assert (platform.enrolled["label"], platform.inventories[-1].slots) == ("attic", 2)
        _, taken = await platform.offer("m:1b", "hello")
        await asyncio.wait_for(taken.ended.wait(), LIMIT_S)
        assert taken.text == "".join(words_of("hello", 8))

        code, said, _ = await machine.run("status", "--json")
        state = json.loads(said)
        assert (code, state["connected"], state["jobs_done"], state["models"], state["platform_says"]) == (0, True, 1, ["m:1b"], None)
        platform.status = {"node_id": platform.node, "state": "active", "tier": "probation", "strikes": 0, "earned_today": "1.25"}
        code, said, _ = await machine.run("status")
        assert "earned today   1.25" in said
        assert "probation" in (await machine.run("why"))[1]
        platform.status = None
        assert "Nothing stands in the way" in (await machine.run("why"))[1]

        code, said, _ = await machine.run("pause")
        assert (code, said) == (0, "takes no new jobs: paused by its owner\n")
        await until(lambda: platform.inventories[-1].paused == "paused by its owner", says="the pause to be told")
        assert (await machine.run("why"))[1] == "It takes no new jobs: paused by its owner.\n"
        assert (await machine.run("resume"))[1] == "takes jobs\n"
        await until(lambda: is_online(platform), says="the node to be online again")

        code, _, err = await machine.run()
        assert (code, "an agent runs here already" in err) == (1, True)
        assert "connected" in (await machine.run("logs"))[1]

        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0, err.decode()
        await until(lambda: platform.frames[-1].type == "bye", says="the goodbye")
        assert b"connected; shares 2 slots of m:1b" in err
        assert b"\x1b" not in err  # it is no terminal
    assert not machine.home.socket.exists()
    code, _, err = await machine.run("status")
    assert (code, "no agent runs" in err) == (1, True)


async def test_a_pause_is_kept_over_a_restart_and_needs_no_running_agent(platform, machine):
    assert (await machine.run("pause"))[:2] == (0, "takes no new jobs: paused by its owner\n")
    async with machine.running("--url", platform.url, "--code", CODE):
        await until(lambda: platform.inventories and platform.inventories[-1].paused == "paused by its owner", says="the pause to be told")


async def test_a_revoked_node_exits_with_77_and_says_what_to_do(platform, machine):
    async with machine.running("--url", platform.url, "--code", CODE) as process:
        await until(lambda: is_online(platform), says="the node to be online")
        platform.revoked = True
        await platform.sockets[-1].close(code=wire.CLOSE_UNAUTHORIZED)
        _, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 77
        assert b"error: this node was revoked" in err
        assert b"hint: " in err
    platform.connects.clear()
    code, _, _ = await machine.run()  # started again, it asks once and does not connect
    assert code == 77
    assert platform.connects == []


async def test_a_banned_node_exits_with_77_and_says_why(platform, machine):
    async with machine.running("--url", platform.url, "--code", CODE) as process:
        await until(lambda: is_online(platform), says="the node to be online")
        platform.revoked, platform.why_cut = True, {"state": "banned", "detail": "This node is banned. Its answers were not its model's."}
        await platform.sockets[-1].close(code=wire.CLOSE_UNAUTHORIZED)
        _, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 77
        assert b"error: the platform says: This node is banned. Its answers were not its model's." in err
        assert b"appeal" in err
        assert b"new code" not in err


async def test_a_platform_that_wants_a_newer_agent_is_exit_78(platform, machine):
    platform.refuses = (426, {})
    code, _, err = await machine.run("--url", platform.url, "--code", CODE)
    assert (code, "pip install --upgrade" in err) == (78, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "is not a node yet"),
        (["--code", CODE], "--url"),
        (["--url", "http://gpu.example.org", "--code", CODE], "not encrypted"),
        (["--share", "0"], "50%"),
        (["--schedule", "noon"], "22:00-08:00"),
    ],
)
async def test_what_cannot_work_is_one_sentence_and_a_hint_and_nothing_is_asked(machine, arguments, words):
    code, out, err = await machine.run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "hint: " in err
    assert words in err
    assert "Traceback" not in err


async def test_an_ollama_that_is_too_old_is_refused_with_what_to_do(platform, tmp_path):
    from aiohttp import web

    async def version(request):
        return web.json_response({"version": "0.16.9"})

    app = web.Application()
    app.router.add_get("/api/version", version)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    machine = Machine(tmp_path / "agent", f"http://127.0.0.1:{runner.addresses[0][1]}")
    code, _, err = await machine.run("--url", platform.url, "--code", CODE)
    await runner.cleanup()
    assert (code, "0.17.1" in err) == (1, True)
    assert "upgrade Ollama" in err


@pytest.mark.model
async def test_without_ollama_the_embedded_runtime_answers(platform, tmp_path):
    machine = Machine(tmp_path / "agent", "http://127.0.0.1:9")
    machine.environment |= {
        name: os.environ[name] for name in ("GFE_MODEL_MIRROR", "GFE_MODEL_URLS", "XDG_CACHE_HOME") if name in os.environ
    }
    machine.environment["HOME"] = os.environ["HOME"]  # the model is in its cache
    async with machine.running("--url", platform.url, "--code", CODE) as process:
        await until(lambda: is_online(platform), says="the model to be there")
        model = platform.inventories[-1].models[0]
        _, taken = await platform.offer(model.name, "Say hello.", digest=model.weights_sha256)
        await asyncio.wait_for(taken.ended.wait(), LIMIT_S)
        assert isinstance(taken.end, wire.End), taken.end
        assert taken.text
        assert taken.end.usage.eval_count > 0
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0


async def test_installing_needs_a_node_and_writes_what_the_service_manager_reads(platform, machine):
    code, _, err = await machine.run("install", "--no-start")
    assert (code, "is not a node yet" in err) == (1, True)
    async with machine.running("--url", platform.url, "--code", CODE):
        await until(lambda: is_online(platform), says="the node to be online")
    code, said, err = await machine.run("install", "--no-start", "--share", "50%", "--on-battery")
    unit = Path(machine.environment["HOME"]) / ".config/systemd/user/gfe-agent.service"
    assert (code, str(unit) in said, "enable --now gfe-agent.service" in err) == (0, True, True)
    assert "agent --share 50%% --on-battery" in unit.read_text()
    assert CODE not in unit.read_text()
    code, said, _ = await machine.run("uninstall", "--purge")
    assert (code, unit.exists(), machine.home.root.exists()) == (0, False, False)


async def test_on_a_terminal_a_live_line_tells_how_it_is(platform, machine):
    import pexpect

    arguments = ["-P", "-m", "serve_app.cli", "agent", "--url", platform.url, "--code", CODE]
    cwd = str(machine.home.root.parent)
    child = await asyncio.to_thread(
        pexpect.spawn, sys.executable, arguments, env=machine.environment, cwd=cwd, dimensions=(24, 100), timeout=LIMIT_S, encoding="utf-8"
    )
    try:
        platform.status = {"node_id": platform.node, "state": "active", "tier": "verified", "strikes": 0, "earned_today": "1.25"}
        await asyncio.to_thread(child.expect, r"connected · 0 of \d+ slots · 0 tokens/s · 0 jobs done · earned today 1.25")
        _, taken = await platform.offer("m:1b", "hello")
        await asyncio.wait_for(taken.ended.wait(), LIMIT_S)
        await asyncio.to_thread(child.expect, "1 jobs done")
        await asyncio.to_thread(child.sendintr)  # Ctrl-C
        await asyncio.to_thread(child.expect, pexpect.EOF)
        await asyncio.to_thread(child.wait)
        assert child.exitstatus == 0
        await until(lambda: platform.frames[-1].type == "bye", says="the goodbye")
    finally:
        await asyncio.to_thread(child.close, force=True)

"""`/install.sh` of a running ledger, run by a real shell into a home of its own, with the wheel that the ledger makes of itself."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from io import BytesIO

import anyio
import httpx2
import pytest

from ledger.own_wheel import own_wheel
from tests.edge_platform import free_port, public_ledger


def test_the_wheel_is_the_same_each_time_and_holds_the_four_packages_and_nothing_else():
    one, other = own_wheel(), own_wheel()
    assert one == other
    with zipfile.ZipFile(BytesIO(one.content)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        record = next(name for name in names if name.endswith("RECORD"))
        listed = [line.split(",")[0] for line in archive.read(record).decode().splitlines()]
    assert sorted(listed) == sorted(names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {
        "cluster",
        "ledger",
        "provider_join",
        "serve_app",
        "gpu_for_everyone",
    }
    assert "ledger/install.sh" in names
    assert not any("__pycache__" in name for name in names)


async def test_the_script_and_the_wheel_are_there_for_everybody(ledger_with):
    ledger = await ledger_with(public_url="https://gpu.example.org/")
    script = await ledger.http.get("/install.sh")
    assert script.headers["content-type"].startswith("text/plain")
    assert "platform=https://gpu.example.org\n" in script.text
    assert "@" not in script.text.replace('"$@"', "").replace(" @ ", "")
    wheel = own_wheel()
    assert f"{wheel.name}#sha256={wheel.sha256}" in script.text
    assert (await ledger.http.get(f"/dist/{wheel.name}")).content == wheel.content
    for name in ("other.whl", "..%2Finstall.sh", "install.sh"):
        assert (await ledger.http.get(f"/dist/{name}")).status_code == 404


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shells_read_the_script(shell):
    assert subprocess.run([shell, "-n", "ledger/install.sh"], capture_output=True, check=False).stderr == b""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["from the platform", "from a file"])
async def test_the_script_installs_a_gfe_that_runs(ledger_with, tmp_path, way):
    port = free_port()
    ledger = await ledger_with(public_url=f"http://127.0.0.1:{port}")
    async with public_ledger(ledger, port) as url, httpx2.AsyncClient() as http:
        text = (await http.get(f"{url}/install.sh")).text
        environment = {
            "HOME": str(tmp_path), "PATH": os.environ["PATH"], "GFE_PYTHON": sys.executable,
            "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PYTHONPATH": sysconfig.get_path("purelib"),  # what it needs is lent, not fetched
        }  # fmt: skip
        if way == "from a file":
            wheel = own_wheel()
            (tmp_path / wheel.name).write_bytes(wheel.content)
            environment["GFE_WHEEL"] = str(tmp_path / wheel.name)
        done = await anyio.run_process(["sh"], input=text.encode(), env=environment, check=False, cwd=tmp_path)
        said = done.stderr.decode()
        assert done.returncode == 0, said
        assert f"gfe agent --url {url} --code" in said
        gfe = tmp_path / ".local/bin/gfe"
        shown = await anyio.run_process([str(gfe), "agent", "--help"], env=environment, cwd=tmp_path)
        assert b"--schedule" in shown.stdout
        where = await anyio.run_process(
            [str(tmp_path / ".gfe/venv/bin/python"), "-c", "import provider_join.agent.sharing as s; print(s.__file__)"],
            env=environment | {"PYTHONPATH": ""}, cwd=tmp_path,
        )  # fmt: skip
        assert str(tmp_path / ".gfe/venv") in where.stdout.decode()
        again = await anyio.run_process(["sh"], input=text.encode(), env=environment, check=False, cwd=tmp_path)
        assert again.returncode == 0, again.stderr.decode()


def test_without_a_python_that_is_new_enough_nothing_is_made(tmp_path):
    script = own_wheel()  # the script as it is in the wheel, before anything is put in
    with zipfile.ZipFile(BytesIO(script.content)) as archive:
        text = archive.read("ledger/install.sh").decode().replace("@QUOTED_URL@", "http://x").replace("@QUOTED_WHEEL@", "w")
    done = subprocess.run(
        ["sh"],
        input=text,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GFE_PYTHON": "/no/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr
    assert list(tmp_path.iterdir()) == []

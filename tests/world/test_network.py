"""The tools of the world do what they say: cut, deafen, slow down, freeze, kill."""

import sys
import time

import pytest

from tests.waiting import wait_for
from tests.world.network import World, why_not

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
CLIENT = "import sys, urllib.request; assert len(urllib.request.urlopen(f'http://{sys.argv[1]}:7000/file', timeout=2).read()) == 200_000"


def test_a_machine_is_cut_deafened_slowed_down_frozen_and_killed_as_asked(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    with World(3) as world:
        asking, serving, _ = world.machines
        server = serving.start([sys.executable, "-m", "http.server", "7000"], environment=None, log="/dev/null", folder=tmp_path)

        def answers():
            return asking.run([sys.executable, "-c", CLIENT, serving.address], capture_output=True).returncode == 0

        wait_for(answers, 10, "the server")
        for harm, mend in ((serving.cut, serving.heal), (serving.deafen, serving.undeafen), (serving.freeze, serving.thaw)):
            harm()
            assert not answers(), harm
            mend()
            wait_for(answers, 10, mend)
        serving.slow_down("1mbit")
        began = time.monotonic()
        assert answers()
        assert time.monotonic() - began > 0.8  # 1.6 million bits
        serving.speed_up()
        serving.kill("http.server")
        assert server.wait(60) == -9
        assert not answers()
        assert asking.find("http.server") == []

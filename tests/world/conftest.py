"""One world for all its tests: the head and three machines."""

import pytest

from tests.world.network import World
from tests.world.platform import Platform

MACHINES = 4


@pytest.fixture(scope="session")
def platform():
    with World(MACHINES) as world:
        platform = Platform(world.machines[0])
        platform.world = world
        try:
            started = platform.gfe("up", "--detach", "--port-base", "21000")
            assert started.returncode == 0, started.stdout + started.stderr
            yield platform
        finally:
            platform.stop()

"""One world for all its tests: the head, two machines that come and go, three that stay joined."""

import pytest

from cluster.runtime.models import SMOLLM2, Mirrors, cache_folder, fetch
from tests.world.network import World
from tests.world.platform import Platform, Scripted

NAMES = ("loft", "barn", "shed")
COMERS = 2  # machines of the join tests


@pytest.fixture(scope="package")
def platform():
    fetch(SMOLLM2, cache_folder(), Mirrors())  # the world has no way out
    with World(1 + COMERS + len(NAMES)) as world:
        platform = Platform(world.machines[0])
        platform.world = world
        try:
            started = platform.gfe("up", "--detach", "--port-base", "21000")
            assert started.returncode == 0, started.stdout + started.stderr
            yield platform
        finally:
            platform.stop()


@pytest.fixture(scope="package")
def machines(platform):
    """Three machines that joined, each with its own Ray, worker and scripted runtime."""
    found = [Scripted(platform, machine, name) for machine, name in zip(platform.world.machines[1 + COMERS :], NAMES, strict=True)]
    try:
        for one in found:
            one.start(platform.invite(one.name))
        for one in found:
            one.joined()
        yield found
    finally:
        for one in found:
            one.stop()

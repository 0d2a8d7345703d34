"""Room for connections: a process that may open few files asks for more, as many as it may."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {most}))
from serve_app.edge.descriptors import make_room
print(make_room({connections}), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("most", "connections", "expected", "is_warned"), [(4096, 1000, 1512, False), (1000, 2000, 1000, True)])
def test_as_many_files_as_are_needed_or_allowed(most, connections, expected, is_warned):
    program = PROGRAM.format(most=most, connections=connections)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    *said, figures = ran.stdout.strip().splitlines()
    assert figures.split() == [str(expected), str(expected), str(most)]
    assert ("few_descriptors" in "".join(said) + ran.stderr) == is_warned

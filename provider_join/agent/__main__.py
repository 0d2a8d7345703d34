"""The agent's process. `gfe agent` becomes it, so that what only a command line needs takes no memory for as long as the agent runs."""

import os
import sys

sys.modules["rich"] = None  # type: ignore[assignment] # structlog takes it where it is, for tracebacks that are not shown here: 3 MiB

from provider_join.agent.home import AgentHome  # noqa: E402
from provider_join.agent.main import START, Start, run_or_refuse  # noqa: E402

if __name__ == "__main__":
    run_or_refuse(AgentHome.of_environment(), Start.read(os.environ.pop(START)))

"""A program that runs clients which cannot run in this process: one request a line, one answer a line, both JSON.

A request names the client, the feature to show, where the API is and what to send; the answer is `said` or `threw`.
"""

import asyncio
import json
import os
import subprocess

LIMIT_S = 60


class Program:
    """One such program; it lasts, for importing a client takes longer than using it."""

    def __init__(self, *command, **environment):
        quiet = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and not name.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet | environment
        )

    async def ask(self, **request):
        """Let a client show a feature; answers what it returned."""
        async with asyncio.timeout(LIMIT_S):
            answer = json.loads(await asyncio.to_thread(self._exchange, json.dumps(request)))
        assert "threw" not in answer, answer["threw"]
        return answer["said"]

    def _exchange(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() or json.dumps({"threw": "the program ended"})

    def close(self):
        """End it."""
        self._process.kill()
        self._process.communicate()

"""A stream that broke is read on, through the real ingress: its client left, or its replica was killed."""

import http.client
import json
import os
import signal
import time
import urllib.parse

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
MODEL = "smollm2:135m"
TOKENS = 400
RESUME_LIMIT_S = 60  # with one replica: Ray has to bring it back first


def begin(green, key=None):
    """Open a stream and read a little of it; answers the connection, the job and what was read."""
    parsed = urllib.parse.urlsplit(green.report["api_url"])
    connection = http.client.HTTPConnection(parsed.hostname, parsed.port, timeout=60)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a very long story about a whale."}],
        "stream": True,
        "max_tokens": TOKENS,
    }
    headers = {"Authorization": f"Bearer {green.report['api_key']}", "Content-Type": "application/json"} | (
        {"Idempotency-Key": key} if key else {}
    )
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    text = ""
    while len(text) < 40:
        line = answer.readline().decode()
        if line.startswith("data: {"):
            text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    return connection, answer.headers["X-GFE-Job"], text


def read_on(green, job):
    """Read the job from its beginning; answers its text, its end, and how long the first event took."""
    parsed = urllib.parse.urlsplit(green.report["api_url"])
    began, first = time.monotonic(), None
    until = began + RESUME_LIMIT_S
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(parsed.hostname, parsed.port, timeout=60)
        try:
            connection.request(
                "GET", f"/api/computing/jobs/{job}/stream/?from=0", headers={"Authorization": f"Bearer {green.report['api_key']}"}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(answer.status)
            text = ""
            while line := answer.readline().decode():
                if not line.startswith("data: "):
                    continue
                said = json.loads(line[6:])
                first = first or time.monotonic() - began
                text += said.get("content", "")
                if said["event"] == "end":
                    return text, said, first
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError(f"nothing to read of {job} within {RESUME_LIMIT_S} s")


def test_a_client_that_named_its_stream_reads_on_after_it_broke(green):
    connection, job, said = begin(green, key=f"whale-{time.time()}")
    connection.close()
    text, end, _ = read_on(green, job)
    assert text.startswith(said)
    assert (end["status"], end["cost"], end["result"]["output"]) == ("COMPLETED", "1.00", text)


def test_a_client_that_did_not_name_it_frees_the_machine_at_once(green):
    connection, job, _ = begin(green)
    connection.close()
    until = time.monotonic() + 10
    while (told := green.ask(f"/api/computing/jobs/{job}/")[1])["status"] == "RUNNING":
        assert time.monotonic() < until, told
        time.sleep(0.1)
    assert told["status"] == "CANCELED"


def test_a_killed_replica_costs_no_word(green):
    connection, job, said = begin(green)
    os.kill(green.pid_of("replica"), signal.SIGKILL)
    text, end, _ = read_on(green, job)
    connection.close()
    assert text.startswith(said)
    assert (end["status"], end["cost"], end["result"]["output"]) == ("COMPLETED", "1.00", text)
    green.wait_until_green()
    green.require_books()

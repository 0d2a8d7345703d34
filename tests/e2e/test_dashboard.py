"""Operators look at the real Ray dashboard through the guard, and do nothing else there."""

import re
import urllib.parse
import urllib.request

import pytest

from tests.e2e.conftest import call

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
PASSWORD = "correct horse battery 7 staple"
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url, *, cookie=None, method="GET", form=None, headers=None):
    """Answer status, headers and text."""
    data = urllib.parse.urlencode(form).encode() if form else b"{}" if method in {"POST", "PUT"} else None
    request = urllib.request.Request(url, data=data, method=method, headers=(headers or {}) | ({"Cookie": cookie} if cookie else {}))
    try:
        with HTTP.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read().decode(errors="replace")


def operator_of(installation, tmp_path):
    """Make an operator; answer the access token."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    made = installation.gfe("admin", "create-operator", "looker", "--password-file", str(file))
    assert made.returncode == 0, made.stderr
    status, answer = call(f"{installation.report['console_url']}/api/core/token/", {"username": "looker", "password": PASSWORD})
    assert status == 200, answer
    return answer["access"]


def test_an_operator_sees_rays_dashboard_without_its_token_and_can_change_nothing(green, tmp_path):
    console, guard, token = green.report["console_url"], green.report["guard_url"], (green.home.ray_secrets / "ray_token").read_text()
    status, made = call(f"{console}/api/admin/tools/ray/pass/", {}, key=operator_of(green, tmp_path))
    assert status == 201, made
    assert made["url"] == f"{guard}/enter"
    status, headers, page = ask(made["url"], method="POST", form={"pass": made["word"], "tool": "ray"})
    assert (status, token in page + str(headers)) == (200, False)
    cookie = re.match(r"[\w-]+=[\w-]+", headers["Set-Cookie"])[0]
    assert ask(made["url"], method="POST", form={"pass": made["word"], "tool": "ray"})[0] == 401

    status, headers, page = ask(f"{guard}/ray/", cookie=cookie)
    assert (status, "Ray Dashboard" in page) == (200, True)
    script = re.search(r'src="\./(static/js/main[^"]+)"', page)[1]
    assert ask(f"{guard}/ray/{script}", cookie=cookie)[0] == 200
    for path, says in [
        ("/api/v0/nodes", '"head"'),
        ("/nodes?view=summary", "raylet"),
        ("/api/serve/applications/", '"RUNNING"'),
        ("/api/jobs/", "["),
    ]:
        status, headers, text = ask(f"{guard}/ray{path}", cookie=cookie)
        assert (status, says in text) == (200, True), (path, text[:500])
        assert token not in text + str(headers), path
        assert "Set-Cookie" not in headers
    for method, path in [
        ("POST", "/api/jobs/"),
        ("DELETE", "/api/jobs/1"),
        ("PUT", "/api/serve/applications/"),
        ("POST", "/api/authenticate"),
    ]:
        assert ask(f"{guard}/ray{path}", cookie=cookie, method=method)[0] in {403, 405}, path
    for path in ("/", "/ray/", "/ray/api/v0/nodes"):
        assert ask(f"{guard}{path}")[0] == 401, path
    assert ask(f"{guard}/ray/", cookie=cookie, headers={"Host": "attacker.example"})[0] == 421
    assert ask(f"{green.report['dashboard_url']}/api/v0/nodes", cookie=cookie)[0] == 401  # who goes around the guard needs the token

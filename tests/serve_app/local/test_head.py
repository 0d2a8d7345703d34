"""What the image of Ray starts: the head and the job APIs, with the settings of its container."""

import shutil
import subprocess

import pytest

from serve_app.local import head
from serve_app.local.errors import Refused
from serve_app.local.home import Home


@pytest.fixture
def start(tmp_path):
    home = Home(tmp_path / "home")

    def start(**settings):
        environment = {"GFE_LEDGER_SOCKET": "/run/gfe/ledger/internal.sock", "GFE_API_HOST": "0.0.0.0", **settings}
        return {part.name: part for part in head.parts_of(head.setup_of(home, environment))}

    yield start
    shutil.rmtree(home.runtime, ignore_errors=True)


def labels(part):
    return part.command[part.command.index("--labels") + 1]


def test_the_job_apis_get_the_settings_of_the_container_and_the_head_does_not(start):
    parts = start(GFE_EDGE_URLS="http://edge:8085", GFE_NODE_ADDRESS="172.30.85.2", GFE_DATABASE_URL="postgresql://secret")
    serve, ray = parts["serve"], parts["ray"]
    assert serve.after == ("ray",)
    assert serve.environment["GFE_EDGE_URLS"] == "http://edge:8085"
    assert serve.environment["GFE_API_HOST"] == "0.0.0.0"
    assert serve.environment["GFE_RAY_ADDRESS"] == "172.30.85.2:6379"
    assert serve.environment["GFE_SECRETS_DIR"].endswith("/home/ray_secrets")
    assert "GFE_DATABASE_URL" not in serve.environment
    assert not any(name in ray.environment for name in ("GFE_EDGE_URLS", "GFE_SECRETS_DIR"))
    for option in ("--node-ip-address", "--dashboard-host"):  # the dashboard guard is another container
        assert ray.command[ray.command.index(option) + 1] == "172.30.85.2"


def test_a_machine_without_a_runtime_is_no_node(start):
    assert labels(start()["ray"]) == "gfe.io/role=control"
    assert labels(start(GFE_NODE_ID="node_x")["ray"]) == "gfe.io/role=control,gfe.io/node=node_x,gfe.io/name=head"


def test_a_mistyped_setting_stops_it(start):
    with pytest.raises(Refused, match="GFE_EGDE_URLS"):
        start(GFE_EGDE_URLS="http://edge:8085")


def test_haproxys_own_pages_go_to_loopback_and_the_job_apis_stay_where_they_were_told(tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend prometheus\n    bind :9101\nfrontend http_frontend\n    bind *:8000\nlisten stats\n  bind *:8404\n")
    wrapper = head.__file__.replace("head.py", "haproxy-loopback")
    settings = {
        "PATH": "/usr/bin:/bin",
        "GFE_HAPROXY": "/bin/true",
        "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
        "RAY_SERVE_HAPROXY_STATS_PORT": "8404",
    }
    subprocess.run(["sh", wrapper, "-db", "-f", str(config)], env=settings, check=True)
    binds = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
    assert binds == ["127.0.0.1:9101", "*:8000", "127.0.0.1:8404"]

import socket

import pytest

from serve_app.local import ports
from serve_app.local.ports import NoFreePort, Ports, PortTaken


def all_free(port: int) -> bool:
    return True


def test_without_a_base_the_well_known_ports_are_taken():
    chosen = ports.plan(None, None, all_free)
    assert (chosen.api, chosen.console, chosen.edge, chosen.gcs, chosen.dashboard) == (8000, 8080, 8090, 6379, 8265)


def test_a_taken_well_known_port_is_refused_by_name():
    with pytest.raises(PortTaken, match=r"port 8080 \(accounts and console\) is already in use"):
        ports.plan(None, None, lambda port: port != 8080)


def test_a_taken_inner_port_is_replaced_by_a_free_one():
    chosen = ports.plan(None, None, lambda port: port not in {8084, 10050})
    assert chosen.runtime != 8084
    assert not {8084, 10050} & chosen.taken()
    assert chosen.api == 8000


def test_with_a_base_every_port_is_the_next_free_one():
    chosen = ports.plan(21000, None, lambda port: port != 21001)
    assert (chosen.api, chosen.console) == (21000, 21002)
    assert min(chosen.taken()) == 21000


@pytest.mark.parametrize("base", [None, 21000])
def test_no_port_is_planned_twice(base):
    chosen = ports.plan(base, None, lambda port: port % 7 != 0 or not 21000 <= port < 21040)
    singles = len(Ports.__dataclass_fields__) - 4  # without the base and the three windows
    assert len(chosen.taken()) == singles + ports.WORKER_WINDOW + 2 * ports.REPLICA_WINDOW


@pytest.mark.parametrize("base", [None, 9000, 21000])
def test_rays_own_ports_lie_outside_the_window_of_its_workers(base):
    chosen = ports.plan(base, None, all_free)
    window = range(chosen.worker_window, chosen.worker_window + ports.WORKER_WINDOW)
    assert not {chosen.gcs, chosen.dashboard, chosen.ray_client, chosen.node_manager, chosen.metrics_export} & set(window)


def test_two_installations_share_no_port_even_where_nothing_listens_yet():
    first = ports.plan(21000, None, all_free)
    second = ports.plan(21010, None, lambda port: port not in first.taken())
    assert not first.taken() & second.taken()


def test_the_next_start_takes_the_same_ports():
    first = ports.plan(21000, None, lambda port: port != 21003)
    assert ports.plan(None, first, all_free) == first
    assert ports.plan(21000, first, all_free) == first
    assert ports.plan(22000, first, all_free).api == 22000


def test_a_kept_port_that_somebody_took_meanwhile_is_refused_when_people_know_it_and_replaced_when_not():
    first = ports.plan(21000, None, all_free)
    with pytest.raises(PortTaken):
        ports.plan(None, first, lambda port: port != first.api)
    second = ports.plan(None, first, lambda port: port != first.node_manager)
    assert second.node_manager not in first.taken()
    assert second.api == first.api


def test_a_base_without_room_is_refused():
    with pytest.raises(NoFreePort, match="from 65500 on"):
        ports.plan(65500, None, all_free)


def test_a_plan_survives_its_file():
    chosen = ports.plan(21000, None, all_free)
    assert Ports.of_json(chosen.to_json()) == chosen
    assert Ports.of_json({"api": 8000}) is None
    assert Ports.of_json({**chosen.to_json(), "api": "8000"}) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "127.0.0.5"])
def test_a_port_on_which_somebody_listens_is_not_free(address):
    with socket.socket() as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)

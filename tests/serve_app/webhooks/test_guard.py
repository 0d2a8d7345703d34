"""The guard against webhooks into our own network: pure decisions, over all forms in which an address can be written."""

import asyncio
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from cluster.errors import InvalidRequest
from serve_app.settings import ServeSettings
from serve_app.webhooks import lookup
from serve_app.webhooks.guard import Policy, embedded, is_global, required_url
from serve_app.webhooks.lookup import Guard, Resolver

STRICT = Policy()
DEV = Policy(allows_loopback=True)
PRIVATE = Policy(allows_private=True)
CLOSED_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32", "169.254.169.254/32",
        "100.100.100.200/32", "168.63.129.16/32",
    )
]  # fmt: skip
CLOSED_6 = [
    IPv6Network(text)
    for text in (
        "::/128", "::1/128", "::/96", "fe80::/10", "fec0::/10", "fc00::/7", "ff00::/8", "2001:db8::/32", "2001::/32", "2002::/16", "100::/64",
        "64:ff9b:1::/48", "fd00:ec2::254/128", "3fff::/20", "5f00::/16",
    )
]  # fmt: skip
OPEN = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]


def inside(networks):
    return st.sampled_from(networks).flatmap(lambda network: st.integers(int(network[0]), int(network[-1])).map(type(network[0])))


def forms_of(address):
    """All ways in which a IPv4 address comes from a resolver."""
    return [address, IPv6Address(0xFFFF << 32 | int(address)), IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))]


def guarded(*addresses, policy=STRICT):
    async def resolve(host, port):
        return [str(address) for address in addresses]

    return Guard(policy, resolve)


def is_allowed(text, *addresses, policy=STRICT):
    try:
        asyncio.run(guarded(*addresses, policy=policy).check_url(text))
    except InvalidRequest:
        return False
    return True


@given(inside(CLOSED_4))
def test_no_address_that_is_not_public_is_allowed_in_whatever_form_it_comes(address):
    for form in forms_of(address):
        assert not is_global(form)
        assert not is_allowed("https://consumer.example/", form)
        host = f"[{form}]" if form.version == 6 else str(form)
        with pytest.raises(InvalidRequest):
            required_url(f"https://{host}/", STRICT)


@given(inside(CLOSED_6))
def test_no_such_address_of_version_6_is_allowed(address):
    assert not is_global(address)
    assert not is_allowed("https://consumer.example/", address)
    with pytest.raises(InvalidRequest):
        required_url(f"https://[{address}]/", STRICT)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_address_and_its_other_forms_are_judged_alike(address):
    assert {is_global(form) for form in forms_of(address)} == {is_global(address)}
    assert {embedded(form) for form in forms_of(address)} == {address}
    assert not is_global(address) or address.is_global


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_is_public_that_the_standard_library_holds_for_private(address):
    assert not is_global(address) or embedded(address).is_global


@pytest.mark.parametrize("address", OPEN)
def test_public_addresses_are_allowed(address):
    assert is_allowed("https://consumer.example/hook?x=1", address)
    assert is_allowed("https://consumer.example:8443/", address)


@given(st.lists(st.sampled_from(OPEN), max_size=4), inside(CLOSED_4), st.integers(0, 4))
def test_one_address_that_is_not_public_is_enough_to_refuse_a_name(public, closed, at):
    assert not is_allowed("https://consumer.example/", *public[:at], closed, *public[at:])


@pytest.mark.parametrize(
    "text",
    [
        "", "consumer.example", "/hook", "http://consumer.example/", "ftp://consumer.example/", "file:///etc/passwd", "gopher://consumer.example/",
        "https://", "https:///hook", "https://user@consumer.example/", "https://user:password@consumer.example/", "https://:@consumer.example/",
        "https://consumer.example/#part", "https://consumer.example:22/", "https://consumer.example:80/", "https://consumer.example:0/",
        "https://consumer.example:99999/", "https://consumer.example:x/", "https://con sumer.example/", "https://consumer.example/\r\nX: y",
        "https://consumer.example\t/", "https://consumer.example\\@evil.example/", "https://127.1/", "https://2130706433/", "https://0177.0.0.1/",
        "https://0x7f.0.0.1/", "https://0x7f000001/", "https://127.0.0.1./", "https://1.2.3/", "https://1.2.3.4.5/", "https://\uff11\uff12\uff17.0.0.1/", "https://[::1]/",
        "https://[fe80::1%25eth0]/", "https://[::ffff:127.0.0.1]/", "https://[::127.0.0.1]/", "https://a..b/", "https://-a.example/", "https://" + "a" * 64 + ".example/",
        "https://consumer.example/" + "x" * 2000, "https://consumer.example/\u2028", "https://consumer\x00.example/",
    ],
)  # fmt: skip
def test_what_is_no_plain_https_url_of_a_public_host_is_refused(text):
    assert not is_allowed(text, OPEN[0])


@given(st.text(max_size=60))
def test_whatever_is_written_is_refused_or_stays_what_it_is(text):
    for start in ("", "https://", "https://consumer.example/", "https://consumer.example:"):
        try:
            url = required_url(start + text, STRICT)
        except InvalidRequest:
            continue
        assert (url.scheme, url.port in {443, 8443}, required_url(str(url), STRICT)) == ("https", True, url)


def test_development_reaches_loopback_over_http_and_nothing_else_more():
    assert is_allowed("http://127.0.0.1:9999/hook", "127.0.0.1", policy=DEV)
    assert is_allowed("http://localhost:9999/", "127.0.0.1", "::1", policy=DEV)
    assert is_allowed("https://consumer.example/", OPEN[0], policy=DEV)
    for text, address in (
        ("http://consumer.example/", OPEN[0]), ("https://consumer.example:9999/", OPEN[0]), ("http://10.0.0.1/", "10.0.0.1"), ("http://consumer.example/", "10.0.0.1"),
        ("http://0.0.0.0/", "0.0.0.0"), ("http://169.254.169.254/", "169.254.169.254"),
    ):  # fmt: skip
        assert not is_allowed(text, address, policy=DEV), text


def test_an_operator_may_open_private_networks_but_never_links_and_metadata():
    for address in ("10.1.2.3", "192.168.1.1", "172.16.0.1", "127.0.0.1", "fd12::1", "::ffff:10.1.2.3"):
        assert is_allowed("http://consumer.example:9000/", address, policy=PRIVATE), address
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "100.64.0.1", "fd00:ec2::254", OPEN[0]):
        assert not is_allowed("http://consumer.example:9000/", address, policy=PRIVATE), address


@pytest.mark.parametrize(
    ("env", "private", "strict"), [("production", False, True), ("test", False, True), ("dev", False, False), ("production", True, False)]
)
def test_the_settings_say_what_is_allowed(tmp_path, env, private, strict):
    settings = ServeSettings(secrets_dir=tmp_path, ledger_socket=tmp_path, env=env, webhook_allow_private=private)
    assert Policy.of(settings).is_strict == strict


def test_a_refusal_does_not_tell_what_our_resolver_saw():
    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(guarded("10.20.30.40").check_url("https://consumer.example/"))
    assert "10.20" not in str(refused.value)


async def test_a_name_that_nobody_knows_or_that_is_not_told_in_time_is_refused(monkeypatch):
    async def unknown(host, port):
        raise OSError("no such host")

    async def late(host, port):
        raise TimeoutError

    async def nothing(host, port):
        return []

    for resolve in (unknown, late, nothing):
        with pytest.raises(InvalidRequest):
            await Guard(STRICT, resolve).check_url("https://consumer.example/")


async def test_who_asks_for_the_same_name_at_once_asks_the_resolver_once(monkeypatch):
    import threading

    asked, may_answer = [], threading.Event()

    def slow(host, port):
        asked.append(host)
        may_answer.wait(10)
        return ["1.1.1.1"]

    monkeypatch.setattr(lookup, "_resolve", slow)
    resolver = Resolver()
    asking = [asyncio.create_task(resolver("slow.example", 443)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    may_answer.set()
    assert await asyncio.gather(*asking[1:]) == [["1.1.1.1"]] * 19
    assert asked == ["slow.example"]
    resolver.close()


async def test_the_machines_resolver_answers_loopback():
    resolver = Resolver()
    assert "127.0.0.1" in await resolver("localhost", 443)
    assert await Guard(DEV, resolver).addresses(URL("http://127.0.0.1:1/")) == [IPv4Address("127.0.0.1")]
    resolver.close()

"""One attempt: TLS for the name that is called, connected to the address that was looked at, nothing followed, little read."""

import asyncio
import contextlib
import ssl
import uuid
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from serve_app.webhooks.guard import Policy
from serve_app.webhooks.lookup import Guard
from serve_app.webhooks.records import Answer
from serve_app.webhooks.schedule import GIVE_UP_S, LONGEST_S, next_try_s
from serve_app.webhooks.sending import Sender, error_of
from serve_app.webhooks.signing import Secrets, Signer
from tests.serve_app.webhooks.receiver import receiving, verified

HOST = "consumer.example"
NOW = datetime.now(UTC)


@pytest.fixture
def certificate(tmp_path):
    """Of `consumer.example`, and trusted by nobody who is not told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def sender(*, addresses=("127.0.0.1",), tls=None):
    looked_up = []

    async def resolve(host, port):
        looked_up.append(host)
        return list(addresses)

    made = Sender(Guard(Policy(allows_loopback=True), resolve), tls)
    made.looked_up = looked_up
    return made


async def test_a_receiver_is_reached_over_tls_by_its_name_at_the_address_that_was_looked_at_once(certificate):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=certificate)
    async with receiving(tls=server) as receiver:
        with_trust = sender(tls=trusting)
        assert await with_trust.send(f"https://{HOST}:{receiver.port}/hook", {"webhook-id": "evt_1"}, "{}") == Answer(200, None)
        assert with_trust.looked_up == [HOST]
        headers = {name.lower(): value for name, value in receiver.got[0][0].items()}
        assert (headers["host"], headers["content-type"], headers["webhook-id"]) == (f"{HOST}:{receiver.port}", "application/json", "evt_1")
        assert not {"cookie", "authorization"} & set(headers)
        wrong_name = await with_trust.send(f"https://other.example:{receiver.port}/", {}, "{}")
        untrusted = await sender().send(f"https://{HOST}:{receiver.port}/", {}, "{}")
        assert [one.error for one in (wrong_name, untrusted)] == ["Its TLS certificate is not valid for this host."] * 2
        no_tls = await sender().send(f"http://{HOST}:{receiver.port}/", {}, "{}")
        assert no_tls.status is None
        assert len(receiver.got) == 1


async def test_a_redirect_is_an_error_and_not_followed():
    async with receiving() as receiver, receiving() as elsewhere:
        receiver.answers, receiver.location = [307], elsewhere.url
        assert await sender().send(receiver.url, {}, "{}") == Answer(307, "It answered 307; redirects are not followed.")
        assert elsewhere.got == []


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with receiving() as receiver:
        assert (await sender().send(receiver.url, {}, "{}")).is_delivered


async def test_a_receiver_that_writes_for_ever_costs_one_head():
    """Its answer is known from the first line on; the rest is not waited for."""
    written = []

    async def endless(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            written.append(1)
            with contextlib.suppress(OSError):
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await sender().send(f"http://127.0.0.1:{port}/", {}, "{}") == Answer(200, None)
    server.close()
    assert len(written) < 1000


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"])
async def test_what_is_no_http_is_an_error(said):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    got = await sender().send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, "{}")
    server.close()
    assert (got.status, got.is_delivered) == (None, False)


@given(st.integers(100, 599))
def test_only_a_status_of_200_to_299_is_a_delivery(status):
    assert (error_of(status) is None) == (200 <= status < 300)


# --- pauses ---------------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32))
def test_a_delivery_is_tried_for_24_hours_with_growing_pauses_and_then_given_up(seed):
    rng, age, attempts = Random(seed), 0.0, 1
    pauses = []
    while (pause := next_try_s(attempts, age, rng)) is not None:
        pauses.append(pause)
        age, attempts = age + pause, attempts + 1
    assert GIVE_UP_S <= age < GIVE_UP_S + 2
    assert 12 < attempts < 120
    assert 1 <= min(pauses) <= max(pauses) <= LONGEST_S
    assert pauses[0] <= 10
    assert pauses[1] <= 20


def test_pauses_are_spread_so_that_what_failed_together_does_not_come_back_together():
    rng = Random(1)
    pauses = sorted(next_try_s(8, 100, rng) for _ in range(1000))
    assert pauses[100] < 200
    assert pauses[900] > 1000


# --- signatures -----------------------------------------------------------------------------------------------------------------------

SECRETS = Secrets(b"root")


def test_each_endpoint_account_version_and_installation_has_another_secret():
    one, two = uuid.uuid4(), uuid.uuid4()
    signers = [
        Signer.of_endpoint(one, 1, None), Signer.of_endpoint(one, 2, None), Signer.of_endpoint(two, 1, None), Signer.of_account("user_a", 1, None),
        Signer.of_account(str(one), 1, None),
    ]  # fmt: skip
    made = [SECRETS.secret(signer) for signer in signers] + [Secrets(b"other").secret(signers[0])]
    assert len(set(made)) == len(made)
    assert all(secret.startswith("whsec_") and len(secret) == 50 for secret in made)
    assert "root" not in repr(SECRETS)


@pytest.mark.parametrize(("hours", "signatures"), [(0, 2), (23.9, 2), (24, 1), (1000, 1)])
def test_two_secrets_sign_for_24_hours_after_a_rotation(hours, signatures):
    now = datetime.now(UTC)  # receivers take what is five minutes old at most
    signer = Signer.of_account("user_a", 3, now - timedelta(hours=hours))
    headers = SECRETS.headers(signer, "evt_1", '{"x": "é"}', now)
    assert len(headers["webhook-signature"].split(" ")) == signatures
    for version in range(3, 3 - signatures, -1):
        assert verified(SECRETS.secret(Signer.of_account("user_a", version, None)), (headers, '{"x": "é"}')) == {"x": "é"}

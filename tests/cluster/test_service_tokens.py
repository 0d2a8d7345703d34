"""Tokens by which our services know each other."""

import time

import jwt
import pytest

from cluster.service_tokens import LIFETIME_S, REUSE_S, InvalidToken, ServiceTokens, TokenVerifier
from serve_app.local.secrets import make_service_key


class Clock:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def keys(tmp_path):
    for name in ("serve", "other"):
        make_service_key(tmp_path, name)
    return {file.name: file.read_bytes() for file in tmp_path.iterdir()}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(keys, clock):
    return ServiceTokens(keys["service_serve.pem"], "serve", clock)


@pytest.fixture
def verifier(keys, clock):
    return TokenVerifier(keys["service_serve.pub.pem"], "node", clock)


def test_a_token_tells_who_made_it(tokens, verifier):
    assert verifier.verify(tokens.mint("node")) == "serve"
    assert verifier.verify(tokens.mint("node")) == "serve"


def test_a_token_is_used_again_for_30_seconds_and_lives_60(tokens, clock):
    first = tokens.mint("node")
    clock.now += REUSE_S
    assert tokens.mint("node") == first
    clock.now += 1
    second = tokens.mint("node")
    assert second != first
    claims = jwt.decode(second, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == LIFETIME_S
    assert claims["jti"] != jwt.decode(first, options={"verify_signature": False})["jti"]


def test_audiences_have_tokens_of_their_own(tokens, verifier):
    assert tokens.mint("node") != tokens.mint("ledger-internal")
    with pytest.raises(InvalidToken):
        verifier.verify(tokens.mint("ledger-internal"))


def test_a_token_that_was_good_is_refused_when_it_is_over(keys, tokens):
    late = Clock()
    verifier = TokenVerifier(keys["service_serve.pub.pem"], "node", late)
    token = tokens.mint("node")
    verifier.verify(token)
    late.now += LIFETIME_S + 1
    made_long_ago = ServiceTokens(keys["service_serve.pem"], "serve", lambda: time.time() - 2 * LIFETIME_S).mint("node")
    with pytest.raises(InvalidToken):
        verifier.verify(made_long_ago)


def forged(keys, algorithm="EdDSA", key="service_serve.pem", **claims):
    now = int(time.time())
    all_claims = {"iss": "serve", "aud": "node", "exp": now + 60, "jti": "1"} | claims
    return jwt.encode({name: value for name, value in all_claims.items() if value is not None}, keys.get(key, key), algorithm=algorithm)


@pytest.mark.parametrize(
    "wrong", [{"iss": None}, {"aud": None}, {"exp": None}, {"jti": None}, {"exp": 1}, {"aud": "agent"}, {"key": "service_other.pem"}],
)  # fmt: skip
def test_a_token_that_lacks_something_or_is_signed_by_another_is_refused(keys, verifier, wrong):
    with pytest.raises(InvalidToken):
        verifier.verify(forged(keys, **wrong))


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c", "ä", "." * 10_000])
def test_nonsense_is_refused(verifier, text):
    with pytest.raises(InvalidToken):
        verifier.verify(text)


def test_other_algorithms_are_refused(keys, verifier):
    unsigned = jwt.encode({"iss": "serve", "aud": "node", "exp": int(time.time()) + 60, "jti": "1"}, None, algorithm="none")
    with pytest.raises(InvalidToken):
        verifier.verify(unsigned)


def test_the_memory_of_good_tokens_is_bounded(keys, verifier):
    for number in range(250):
        verifier.verify(forged(keys, jti=str(number)))
    assert len(verifier._known) <= 101

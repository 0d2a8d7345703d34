"""A receipt that is not what it says is refused, whoever forged it: the consumer, a stranger, the platform, the node."""

import base64
import time
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster.receipts import Receipt, sign, text_sha256
from ledger.identity.signing_keys import SigningKeys, make_key
from ledger.ids import new_uuid7, text_of
from ledger.money.posting import Kind
from ledger.money.receipts import SettledJob, claims_of
from serve_app.receipts import TYPE, BadReceipt, check, check_answer

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def base64url(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Issued:
    """A receipt as the ledger signs it, of an answer that a node vouched for."""

    def __init__(self, folder, content="Hello", thinking="Hm", weights="d" * 64):
        make_key(folder, time.time())
        self.keys = SigningKeys(folder, "https://example.org")
        self.node_key = Ed25519PrivateKey.generate()
        id_, told = new_uuid7(), text_sha256(content, thinking)
        self.job = text_of("job", id_)
        vouched = Receipt(
            job=self.job,
            lease=1,
            node="node_1",
            model_digest=weights,
            text_sha256=told,
            prompt_tokens=9,
            completion_tokens=8,
            reason="stop",
        )
        agent = {
            "model_digest": weights, "text_sha256": told, "signature": sign(vouched, self.node_key), "prompt_tokens": 9, "completion_tokens": 8,
            "reason": "stop",
        }  # fmt: skip
        meta = {
            "user": str(new_uuid7()), "model": "m", "held": 100, "cost": 70, "price": [1, 70, 0, 0], "node": "node_1", "attempt": 1,
            "outcome": "succeeded", "prompt_tokens": 9, "completion_tokens": 8, "counted_by": "platform",
            "node_key": base64url(self.node_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)),
        }  # fmt: skip
        now = datetime.now(UTC)
        job = SettledJob(kind=Kind.CAPTURE, meta=meta, held_at=now, at=now, is_refunded=False)
        self.claims = claims_of(id_, job, {"model_digest": "d" * 64, "text_sha256": told, "agent": agent})
        self.token = self.signed()

    def signed(self, **changes):
        """Sign claims as the ledger would, if it lied."""
        return self.keys.sign(self.claims | changes, TYPE)

    def check(self, token, job=None, keys=None):
        return check(token, self.keys.jwks() if keys is None else keys, job or self.job)


@pytest.fixture
def issued(tmp_path):
    return Issued(tmp_path)


def test_an_honest_one_fits(issued):
    claims = issued.check(issued.token)
    assert (claims["job"], claims["cost"], claims["agent"]["completion_tokens"]) == (issued.job, "0.00007", 8)
    check_answer(claims, "Hello", "Hm")


@pytest.mark.parametrize("answer", [("Hello", ""), ("", "Hm"), ("HelloH", "m "), ("hello", "Hm")])
def test_of_another_answer_it_is_none(issued, answer):
    with pytest.raises(BadReceipt, match="its hash is another"):
        check_answer(issued.check(issued.token), *answer)


def test_any_changed_letter_is_seen(issued):
    for at, letter in enumerate(issued.token):
        for other in ("A", "B", "_", "."):
            if other != letter:
                with pytest.raises(BadReceipt):
                    issued.check(f"{issued.token[:at]}{other}{issued.token[at + 1 :]}")


def test_another_spelling_of_the_signature_is_seen(issued):
    """The last letter of 64 bytes in base64url carries four bits that say nothing."""
    with pytest.raises(BadReceipt):
        issued.check(issued.token[:-1] + LETTERS[LETTERS.index(issued.token[-1]) ^ 1])


def test_of_another_job_it_is_none(issued, tmp_path):
    with pytest.raises(BadReceipt, match=f"receipt of {issued.job}, not of job_other"):
        issued.check(issued.token, "job_other")


def test_the_signature_of_another_key_is_refused(issued):
    head = jwt.get_unverified_header(issued.token)
    claims = jwt.decode(issued.token, options={"verify_signature": False})
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(BadReceipt, match="signature does not fit"):
        issued.check(jwt.encode(claims, stranger, "EdDSA", head))
    with pytest.raises(BadReceipt, match="None of these keys"):
        issued.check(jwt.encode(claims, stranger, "EdDSA", head | {"kid": "other"}))
    with pytest.raises(BadReceipt, match="signature does not fit"):
        issued.check(jwt.encode(claims, None, "none", {"typ": TYPE, "kid": head["kid"]}))
    with pytest.raises(BadReceipt, match="signature does not fit"):
        issued.check(jwt.encode(claims, issued.keys.jwks()["keys"][0]["x"], "HS256", {"typ": TYPE, "kid": head["kid"]}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"agent": {"completion_tokens": 81}}, "does not fit what it is said to have vouched for"),
        ({"agent": {"text_sha256": "0" * 64}}, "does not fit"), ({"agent": {"reason": "length"}}, "does not fit"),
        ({"agent": {"model_digest": "0" * 64}}, "does not fit"), ({"agent": {"signature": "x" * 86}}, "does not fit"),
        ({"attempt": 2}, "does not fit"), ({"node": "node_2"}, "does not fit"), ({"node_key": "A" * 43}, "does not fit"),
        ({"node_key": "A"}, "cannot be read"), ({"text_sha256": "0" * 64}, "another answer than the platform"),
        ({"model_digest": "0" * 64}, "another model than the platform"), ({"node_key": None}, "cannot be read"),
        ({"agent": {"signature": None}}, "cannot be read"), ({"agent": []}, "cannot be read"), ({"agent": "x"}, "cannot be read"),
    ],
)  # fmt: skip
def test_what_the_platform_makes_the_node_say_is_seen(issued, changes, why):
    """A platform that signs what the node did not is found out by the node's own signature."""
    said = changes.get("agent", {})
    changes = changes | {"agent": issued.claims["agent"] | said if isinstance(said, dict) else said}
    with pytest.raises(BadReceipt, match=why):
        issued.check(issued.signed(**changes))


def test_a_node_that_vouches_for_other_weights_is_seen(tmp_path):
    issued = Issued(tmp_path, weights="e" * 64)
    with pytest.raises(BadReceipt, match="node_1 vouches for another model"):
        issued.check(issued.token)


def test_other_tokens_of_the_platform_are_no_receipts(issued):
    with pytest.raises(BadReceipt, match="another kind of token"):
        issued.check(issued.keys.sign(issued.claims))
    with pytest.raises(BadReceipt, match="signature does not fit"):
        issued.check(issued.signed(aud="gfe"))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "a.b", "\ud800", "." * 9, base64url(b"{}") + ".e30.e30", base64url(b"7") + ".e30.e30"])
def test_nonsense_is_no_receipt(issued, token):
    with pytest.raises(BadReceipt, match="This is no receipt"):
        issued.check(token)


@pytest.mark.parametrize("keys", [{}, {"keys": []}, {"keys": 7}, {"keys": [{"kty": "OKP"}]}, [], 7, "x"])
def test_keys_that_are_none_are_refused(issued, keys):
    with pytest.raises(BadReceipt):
        issued.check(issued.token, keys=keys)

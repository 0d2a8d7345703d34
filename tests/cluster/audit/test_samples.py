"""Samples: chosen by chance and standing, sealed to the auditor alone."""

import base64
import random
import zlib
from datetime import date

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cluster.audit.choosing import Choosing
from cluster.audit.sample import MAX_TEXT_BYTES, Sample
from cluster.audit.sealing import SealBroken, seal

TODAY, TOMORROW = date(2026, 1, 1), date(2026, 1, 2)
SAMPLE = Sample({"messages": [{"role": "user", "content": "Grüße \ud800"}], "options": {"temperature": 0}}, "an answer")


@pytest.fixture
def key():
    return X25519PrivateKey.generate()


def to(key):
    return key.public_key().public_bytes_raw()


def test_a_sample_comes_back_as_it_was_and_says_nothing_on_the_way(key):
    sealed = SAMPLE.sealed(to(key), "job_1")
    assert Sample.opened(key, sealed, "job_1") == SAMPLE
    assert b"answer" not in base64.b64decode(sealed)
    assert SAMPLE.sealed(to(key), "job_1") != sealed


def test_it_opens_with_no_other_key_for_no_other_job_and_only_whole(key):
    sealed = SAMPLE.sealed(to(key), "job_1")
    raw = bytearray(base64.b64decode(sealed))
    raw[-1] ^= 1
    for wrong, text, job in (
        (X25519PrivateKey.generate(), sealed, "job_1"),
        (key, sealed, "job_2"),
        (key, base64.b64encode(raw).decode(), "job_1"),
        (key, sealed[:40], "job_1"),
        (key, "not base64", "job_1"),
        (key, "", "job_1"),
    ):
        with pytest.raises(SealBroken):
            Sample.opened(wrong, text, job)


@pytest.mark.parametrize(
    "text", [b"plain", zlib.compress(b"[1, 2]"), zlib.compress(b"{}"), zlib.compress(b'"' + b"a" * MAX_TEXT_BYTES + b'"')]
)
def test_whatever_else_was_sealed_to_it_is_refused_also_what_unpacks_to_too_much(key, text):
    with pytest.raises(SealBroken):
        Sample.opened(key, base64.b64encode(seal(to(key), text, "job_1")).decode(), "job_1")


def test_the_share_is_kept_and_nobody_is_audited_who_should_not_be():
    choosing = Choosing(random.Random(1))
    wanted = sum(choosing.wants("node_1", "m", 5, TODAY) for _ in range(10_000))
    assert 400 < wanted < 600
    assert all(choosing.wants("node_2", "m", 100, TODAY) for _ in range(100))
    assert not any(choosing.wants("node_3", "m", 0, TODAY) for _ in range(100))


def test_at_least_one_of_each_node_and_model_and_day():
    class Never(random.Random):
        def random(self):
            return 0.999999

    choosing = Choosing(Never())
    assert [choosing.wants("node_1", "m", 2, TODAY) for _ in range(3)] == [True, False, False]
    assert [choosing.wants("node_1", "other", 2, TODAY), choosing.wants("node_2", "m", 2, TODAY)] == [True, True]
    assert [choosing.wants("node_1", "m", 2, TOMORROW) for _ in range(2)] == [True, False]


def test_the_memory_of_who_was_audited_is_bounded():
    choosing = Choosing(random.Random(1), most=10)
    for n in range(100):
        choosing.wants(f"node_{n}", "m", 2, TODAY)
    assert len(choosing._audited) == 10

"""Samples: chosen by chance and standing, sealed to the auditor alone."""

import base64
import random
import zlib
from collections import Counter
from datetime import date

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cluster.audit.choosing import LEAST_WEIGHT, MOST_WEIGHT, Choosing, Usual
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
    wanted = sum(choosing.wants("node_1", "m", 5, TODAY, 1) for _ in range(10_000))
    assert 400 < wanted < 600
    assert all(choosing.wants("node_2", "m", 100, TODAY, 1) for _ in range(100))
    assert not any(choosing.wants("node_3", "m", 0, TODAY, 1) for _ in range(100))


def test_at_least_one_of_each_node_and_model_and_day():
    class Never(random.Random):
        def random(self):
            return 0.999999

    choosing = Choosing(Never())
    assert [choosing.wants("node_1", "m", 2, TODAY, 1) for _ in range(3)] == [True, False, False]
    assert [choosing.wants("node_1", "other", 2, TODAY, 1), choosing.wants("node_2", "m", 2, TODAY, 1)] == [True, True]
    assert [choosing.wants("node_1", "m", 2, TOMORROW, 1) for _ in range(2)] == [True, False]


def costs_of(kind, chance):
    """What a node's jobs cost, in micro-credits."""
    match kind:
        case "flat":
            return 1_000_000
        case "free":
            return 0
        case "many cheap, few dear":
            return 2_000_000 if chance.random() < 0.05 else 10_000
        case "few cheap, many dear":
            return 10_000 if chance.random() < 0.3 else 2_000_000
        case "long tail":
            return int(100_000 * chance.lognormvariate(0, 1.5))


KINDS = ["flat", "free", "many cheap, few dear", "few cheap, many dear", "long tail"]


@pytest.mark.parametrize("percent", [2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_all_jobs_stays_the_tiers_whatever_they_cost(kind, percent):
    chance, jobs = random.Random(7), 60_000
    choosing = Choosing(random.Random(8))
    audited = sum(choosing.wants("node_1", "m", percent, TODAY, costs_of(kind, chance)) for _ in range(jobs))
    assert audited * 100 / jobs == pytest.approx(percent, rel=0.1)


def test_dear_jobs_are_audited_more_often_and_cheap_ones_still_are():
    chance, choosing = random.Random(7), Choosing(random.Random(8))
    seen, audited = Counter(), Counter()
    for _ in range(100_000):
        cost = chance.choice([20_000, 100_000, 380_000])  # a mean of 166,667: a tenth of it, a bit less than it, twice as much
        seen[cost] += 1
        audited[cost] += choosing.wants("node_1", "m", 5, TODAY, cost)
    cheap, usual, dear = (audited[cost] / seen[cost] for cost in sorted(seen))
    assert (usual / cheap, dear / usual) == (pytest.approx(0.6 / LEAST_WEIGHT, rel=0.15), pytest.approx(3.8, rel=0.15))


@pytest.mark.parametrize("percent", [100, 50])
def test_the_chance_ends_at_certainty_and_where_all_are_audited_cheap_ones_are_too(percent):
    choosing = Choosing(random.Random(1))
    costs = [1_000, *([1_000_000] * 50), *([1_000] * 50), 9_000_000]
    wanted = [choosing.wants("node_1", "m", percent, TODAY, cost) for cost in costs]
    assert wanted[-1] is True
    assert all(wanted) is (percent == 100)


def test_what_is_usual_is_each_nodes_own_and_follows_it():
    usual = Usual()
    assert [usual.weigh(100) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert usual.weigh(10_000) == pytest.approx(MOST_WEIGHT / 1.75)  # the most there is, over the mean of 1, 1, 1 and 4
    for _ in range(1_000):
        usual.weigh(10_000)
    assert (usual.weigh(10_000), usual.cost) == (pytest.approx(1, rel=0.01), pytest.approx(10_000, rel=0.01))


def test_the_memory_of_who_was_audited_is_bounded():
    choosing = Choosing(random.Random(1), most=10)
    for n in range(100):
        choosing.wants(f"node_{n}", "m", 2, TODAY, 1)
    assert (len(choosing._audited), len(choosing._usual)) == (10, 10)

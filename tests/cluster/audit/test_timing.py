"""An answer that came faster than others with the same card ever write the model is suspicious; a line that stalls and bursts is not."""

import random

import pytest

from cluster.audit.timing import KEPT_JOBS, LEAST_JOBS, LEAST_TOKENS, MARGIN, MAX_PAIRS, MAX_PEERS, Timed, Timing

CARD, MODEL = "RTX 4090", "a" * 64


def wrote(speed, tokens=200, wait_s=0.2):
    """An answer at so many tokens a second, after a wait for the first."""
    return Timed(tokens, wait_s + tokens / speed, (tokens - 1) / speed)


def peers(timing, speeds=(100.0, 95.0, 90.0), jobs=LEAST_JOBS, card=CARD, model=MODEL, *, is_proven=True):
    for n, speed in enumerate(speeds):
        for _ in range(jobs):
            timing.judge(f"peer_{n}", card, model, wrote(speed), is_proven=is_proven)


def judged(timing, timed, node="node", card=CARD, model=MODEL):
    return timing.judge(node, card, model, timed, is_proven=False)


def test_what_is_half_as_fast_again_as_the_fastest_of_three_others_is_beyond():
    timing = Timing()
    peers(timing)
    assert judged(timing, wrote(150)) is None  # at the limit, and then it waited for its first token
    assert judged(timing, Timed(200, 200 / 160, 1.0)) == pytest.approx(100 * MARGIN)
    assert judged(timing, wrote(1_000, wait_s=0.05)) == pytest.approx(150)


@pytest.mark.parametrize(
    "lacking",
    [{"speeds": (100.0, 95.0)}, {"jobs": LEAST_JOBS - 1}, {"card": "RTX 3060"}, {"model": "b" * 64}, {"is_proven": False}],
)  # fmt: skip
def test_nobody_is_judged_by_too_few_others_by_other_cards_or_models_or_by_nodes_on_probation(lacking):
    timing = Timing()
    peers(timing, **lacking)
    assert judged(timing, wrote(10_000)) is None


def test_a_node_is_not_held_against_itself_and_what_is_beyond_raises_no_limit():
    timing = Timing()
    peers(timing)
    for _ in range(200):
        assert timing.judge("peer_2", CARD, MODEL, wrote(10_000, wait_s=0), is_proven=True) is None  # with two others nobody can say
    assert timing.limit("peer_0", CARD, MODEL) is None
    timing = Timing()
    peers(timing, (100.0, 95.0, 90.0, 85.0))
    for _ in range(200):
        assert timing.judge("peer_3", CARD, MODEL, wrote(10_000, wait_s=0), is_proven=True) == pytest.approx(150)
    assert timing.limit("node", CARD, MODEL) == pytest.approx(150)


def test_a_stalled_line_that_brings_all_at_once_wrongs_nobody():
    timing = Timing()
    peers(timing)
    assert judged(timing, Timed(400, 4.0, 0.001)) is None  # all in one burst, after four seconds
    for _ in range(3):
        timing.judge("peer_1", CARD, MODEL, Timed(400, 4.0, 0.001), is_proven=True)
    assert (
        timing.limit("node", CARD, MODEL) > 100 * MARGIN
    )  # of 63 jobs three: a hundredth may be, these make the limit higher, never lower


def test_short_answers_and_machines_without_a_card_tell_nothing():
    timing = Timing()
    peers(timing)
    peers(timing, card="")
    assert judged(timing, Timed(LEAST_TOKENS - 1, 0.01, 0.01)) is None
    assert judged(timing, Timed(LEAST_TOKENS, 0.01, 0.01)) == pytest.approx(150)
    assert judged(timing, wrote(10_000), card="") is None
    assert judged(timing, wrote(10_000), model="") is None
    assert judged(timing, Timed(200, 0.0, 0.0)) is None


def test_honest_nodes_of_one_card_that_differ_by_a_third_are_never_beyond():
    chance, timing = random.Random(3), Timing()
    found = 0
    for _ in range(4_000):
        node = chance.randrange(8)
        speed = 100 * (0.85 + 0.3 * node / 7) * chance.uniform(0.6, 1.0)  # its own clock, and what else runs
        tokens = chance.randrange(32, 600)
        timed = Timed(tokens, chance.uniform(0.02, 1) + tokens / speed, (tokens - 1) / speed)
        found += timing.judge(f"node_{node}", CARD, MODEL, timed, is_proven=True) is not None
    assert found == 0
    smaller = sum(judged(timing, Timed(300, 0.3 + 300 / (400 * chance.uniform(0.6, 1)), 1.0)) is not None for _ in range(200))
    assert smaller == 200  # a model of a quarter of the size


def test_the_memory_is_bounded():
    timing = Timing()
    for n in range(MAX_PEERS + 5):
        for _ in range(KEPT_JOBS + 5 if n == 3 else 1):
            timing.judge(f"peer_{n}", CARD, MODEL, wrote(10), is_proven=True)
    assert len(timing._seen[CARD, MODEL]) == MAX_PEERS
    assert max(len(speeds) for speeds in timing._seen[CARD, MODEL].values()) <= KEPT_JOBS
    for n in range(MAX_PAIRS + 5):
        timing.judge("peer", CARD, f"{n}", wrote(10), is_proven=True)
    assert len(timing._seen) == MAX_PAIRS

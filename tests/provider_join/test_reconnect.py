"""When an agent connects again, and when it gives up. No sockets, no clock."""

import random

import pytest

from cluster.edge import protocol as wire
from provider_join.agent.reconnect import LAST_S, Again, Ended, GiveUp, Reconnect

BROKEN = Ended()


def waits(count, ended=BROKEN, seed=1):
    decide = Reconnect(random.Random(seed))
    return [decide.after(ended, 0.0).wait_s for _ in range(count)]


def test_waits_grow_with_full_jitter_and_at_last_no_two_connects_are_within_a_minute():
    many = [waits(20, seed=seed) for seed in range(200)]
    for n in range(7):
        longest = max(one[n] for one in many)
        assert longest <= min(LAST_S, 0.5 * 2**n)
        assert longest > 0.8 * min(LAST_S, 0.5 * 2**n)  # all of the range is used
        assert min(one[n] for one in many) < 0.2 * longest
    assert all(wait >= LAST_S for one in many for wait in one[7:])
    assert all(wait <= 1.25 * LAST_S for one in many for wait in one[7:])


def test_a_connection_that_held_begins_the_waits_anew():
    decide = Reconnect(random.Random(1))
    for _ in range(10):
        decide.after(BROKEN, 0.0)
    assert decide.after(Ended(lasted_s=61), 0.0).wait_s <= 0.5
    assert decide.after(Ended(lasted_s=59), 0.0).wait_s <= 1


def test_while_jobs_run_here_the_waits_stay_short_enough_to_keep_them():
    assert all(wait <= 2 for wait in waits(30, Ended(is_at_work=True)))
    assert all(wait >= 30 for wait in waits(30, Ended(code=wire.CLOSE_OVERLOADED, is_at_work=True)))


def test_the_tries_while_jobs_ran_here_make_no_later_wait_longer():
    for seed in range(50):
        decide = Reconnect(random.Random(seed))
        for _ in range(15):
            decide.after(Ended(is_at_work=True), 0.0)
        assert decide.after(BROKEN, 0.0).wait_s <= 2
        assert decide.after(BROKEN, 0.0).wait_s <= 4


def test_a_deploy_is_answered_within_ten_seconds_and_an_overload_after_thirty():
    assert all(wait <= 10 for wait in waits(50, Ended(code=wire.CLOSE_RESTART)))
    assert all(wait >= 30 for wait in waits(50, Ended(code=wire.CLOSE_OVERLOADED)))


def test_a_refusal_that_names_a_time_is_kept_to():
    assert all(wait >= 17 for wait in waits(20, Ended(status=429, retry_after_s=17)))


def test_a_platform_that_is_starting_or_full_says_when_to_come_and_not_all_come_at_once():
    firsts = [waits(1, Ended(status=503, retry_after_s=2), seed)[0] for seed in range(50)]
    assert min(firsts) >= 2
    assert max(firsts) <= 4
    assert len(set(firsts)) > 40
    assert all(wait <= 2 for wait in waits(30, Ended(status=503, is_at_work=True))), (
        "a proxy that says it without a time must not cost a job"
    )


@pytest.mark.parametrize("ended", [Ended(code=wire.CLOSE_UNAUTHORIZED), Ended(status=401), Ended(status=403)])
def test_an_expired_token_is_renewed_once_at_once_then_with_waits(ended):
    decide = Reconnect(random.Random(1))
    assert decide.after(ended, 0.0) == Again(0.0, renews=True)
    later = [decide.after(ended, 0.0) for _ in range(9)]
    assert all(again.renews for again in later)
    assert later[-1].wait_s >= LAST_S
    assert decide.after(Ended(lasted_s=61), 0.0).wait_s <= 0.5
    assert decide.after(ended, 0.0) == Again(0.0, renews=True)


def test_a_replaced_connection_waits_a_minute_and_twice_in_five_minutes_is_the_end():
    decide = Reconnect(random.Random(1))
    replaced = Ended(code=wire.CLOSE_REPLACED)
    assert decide.after(replaced, 0.0) == Again(60.0)
    assert decide.after(replaced, 301.0) == Again(60.0)
    end = decide.after(replaced, 600.0)
    assert isinstance(end, GiveUp)
    assert end.exit_code == 77


@pytest.mark.parametrize("ended", [Ended(code=wire.CLOSE_VERSION), Ended(status=426)])
def test_a_platform_that_speaks_newer_versions_only_is_the_end_with_what_to_do(ended):
    end = Reconnect(random.Random(1)).after(ended, 0.0)
    assert end.exit_code == 78
    assert "upgrade" in end.hint


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1006, 1008, 1009, wire.CLOSE_NO_HELLO, 4999])
def test_every_other_end_is_answered_with_a_wait(code):
    assert isinstance(Reconnect(random.Random(1)).after(Ended(code=code), 0.0), Again)

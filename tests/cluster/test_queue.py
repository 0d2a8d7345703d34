"""Who waits, who is next, who is told to come back."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.queue import ASYNC_WAIT_S, KEPT_CONSUMERS, FairQueue
from tests.cluster.builders import wait

PLENTY = 10_000


def filled(*waits, slots=PLENTY):
    queue = FairQueue()
    for one in waits:
        assert queue.add(one, slots, 0) is None
    return queue


def order(queue, model="m"):
    return [one.job for one in queue.in_order(model)]


def drain(queue, model="m"):
    taken = []
    while waiting := queue.in_order(model):
        queue.take(waiting[0].job, 0)
        taken.append(waiting[0])
    return taken


def test_a_consumer_with_many_jobs_delays_another_by_one_job_at_most():
    queue = filled(*(wait(f"greedy_{n}", "greedy", is_async=True) for n in range(50)), wait("modest", "modest"))
    assert order(queue).index("modest") <= 1


def test_shares_are_counted_in_tokens_not_in_jobs():
    long = [wait(f"long_{n}", "long", tokens=1000) for n in range(4)]
    short = [wait(f"short_{n}", "short", tokens=100) for n in range(20)]
    first = [one.consumer for one in drain(filled(*long, *short))][:12]
    assert first.count("long") in {1, 2}


def test_a_double_weight_gets_a_double_share():
    heavy = [wait(f"heavy_{n}", "heavy", weight=2.0) for n in range(20)]
    light = [wait(f"light_{n}", "light") for n in range(20)]
    first = [one.consumer for one in drain(filled(*light, *heavy))][:15]
    assert 9 <= first.count("heavy") <= 11


def test_somebody_who_was_away_does_not_get_more_than_a_fair_share():
    queue = filled(*(wait(f"a_{n}", "a") for n in range(20)))
    for _ in range(10):
        queue.take(queue.in_order("m")[0].job, 0)
    for n in range(10):
        queue.add(wait(f"b_{n}", "b"), PLENTY, 0)
    following = [one.consumer for one in drain(queue)][:10]
    assert 4 <= following.count("b") <= 6


def test_a_returned_ticket_goes_to_the_front_in_the_order_of_return():
    queue = filled(wait("waits"))
    queue.put_back(wait("first"), 0)
    queue.put_back(wait("second"), 0)
    assert order(queue) == ["first", "second", "waits"]


def test_a_job_waits_once_however_often_it_says_so():
    queue = filled(wait("job_1"))
    assert queue.add(wait("job_1"), PLENTY, 0) is None
    queue.put_back(wait("job_1"), 0)
    assert queue.waiting() == {"m": 1}


def test_more_than_twice_the_slots_are_refused_with_a_time_to_come_back():
    queue = filled(*(wait(f"job_{n}", f"user_{n}") for n in range(4)), slots=2)
    refused = queue.add(wait("job_5"), 2, 0)
    assert refused
    assert refused.reason == "4 jobs wait for m already"
    assert 1 <= refused.retry_after_s <= 60
    assert queue.waiting() == {"m": 4}


def test_an_async_job_waits_where_a_sync_one_is_refused():
    queue = filled(*(wait(f"job_{n}") for n in range(4)), slots=2)
    assert queue.add(wait("later", is_async=True), 2, 0) is None


def test_an_async_job_is_not_failed_for_an_estimate_which_one_slow_minute_can_make_long():
    queue = filled(*(wait(f"job_{n}", is_async=True) for n in range(250)), slots=2)
    assert queue.estimated_wait_s("m", 1, 60) > ASYNC_WAIT_S
    assert queue.add(wait("one_more", is_async=True), 2, 60) is None


def test_the_estimate_follows_the_gaps_between_grants():
    queue = filled(*(wait(f"job_{n}") for n in range(30)))
    for n in range(25):
        queue.take(queue.in_order("m")[0].job, 10.0 * n)
    assert 5 * 10.0 < queue.estimated_wait_s("m", 1, 240) <= 6 * 10.0
    assert queue.add(wait("late"), PLENTY, 240) is not None


def test_a_line_that_does_not_move_is_estimated_longer_and_longer():
    queue = filled(wait("job_1"))
    assert queue.estimated_wait_s("m", 4, 100) > queue.estimated_wait_s("m", 4, 10) > queue.estimated_wait_s("m", 4, 0)


def test_the_estimate_begins_with_what_a_job_takes_and_ends_with_what_was_seen():
    queue = filled(*(wait(f"job_{n}", is_async=True) for n in range(40)), slots=4)
    assert queue.estimated_wait_s("m", 4, 0, job_s=8.0) == 41 * 8.0 / 4
    for n in range(20):
        queue.take(queue.in_order("m")[0].job, 3.0 * n)
    assert queue.estimated_wait_s("m", 4, 57, job_s=8.0) == 21 * 3.0


def test_a_burst_of_grants_and_the_pause_after_it_are_one_rhythm():
    queue = filled(*(wait(f"job_{n}", is_async=True) for n in range(60)), slots=8)
    for n in range(40):
        queue.take(queue.in_order("m")[0].job, 4.0 * (n // 8))
    assert 0.8 * 21 * 0.5 <= queue.estimated_wait_s("m", 8, 16.0, job_s=4.0) <= 1.3 * 21 * 0.5
    assert queue.estimated_wait_s("m", 8, 19.9, job_s=4.0) <= 1.5 * 21 * 0.5


def test_a_second_job_is_not_starved_by_new_consumers_without_end():
    queue = filled(wait("first", "busy"), wait("second", "busy"), wait("other", "other"))
    for n in range(100):
        queue.add(wait(f"job_{n}", f"user_{n}"), PLENTY, n)
        first = order(queue)[0]
        queue.take(first, n)
        if first == "second":
            assert n <= 12
            return
    raise AssertionError("it never came")


def test_each_waiting_job_can_be_told_where_it_stands():
    queue = filled(wait("greedy_0", "greedy"), wait("greedy_1", "greedy"), wait("modest", "modest"))
    assert [queue.standing(job, 1, 0).ahead for job in ("greedy_0", "modest", "greedy_1")] == [0, 1, 2]
    assert [queue.standing(job, 1, 0, job_s=4.0).estimated_s for job in ("greedy_0", "modest", "greedy_1")] == [4.0, 8.0, 12.0]
    queue.take("greedy_0", 0)
    assert queue.standing("greedy_0", 1, 0) is None
    assert queue.standing("modest", 1, 0).ahead == 0
    assert queue.model_of("modest") == "m"
    assert queue.model_of("greedy_0") is None


def test_one_consumers_many_jobs_close_the_queue_to_nobody_else():
    queue = filled(*(wait(f"greedy_{n}", "greedy", is_async=True) for n in range(100)), slots=2)
    assert queue.add(wait("impatient", "greedy"), 2, 0)
    assert queue.add(wait("modest", "modest"), 2, 0) is None
    assert queue.standing("modest", 2, 0).ahead <= 1


def test_however_many_consumers_come_the_line_is_bounded():
    queue, taken_in = FairQueue(), 0
    for round_ in range(8):
        for n in range(500):
            taken_in += queue.add(wait(f"job_{round_}_{n}", f"user_{n}"), 4, 0) is None
    assert taken_in == queue.waiting()["m"] <= 8 * 4


def test_no_more_than_so_many_wait_for_a_model(monkeypatch):
    monkeypatch.setattr("cluster.queue.MOST_WAITING", 3)
    queue = filled(*(wait(f"job_{n}", f"user_{n}", is_async=True) for n in range(3)))
    assert queue.add(wait("one_more", "user_9", is_async=True), PLENTY, 0)


def test_a_line_that_never_empties_forgets_consumers_that_are_done():
    queue = FairQueue()
    for n in range(1000):
        queue.add(wait(f"job_{n}", f"user_{n}"), PLENTY, n)
        if n > 2:
            queue.take(order(queue)[0], n)
    assert len(queue._lines["m"].finish) <= KEPT_CONSUMERS + 10


def test_models_have_lines_of_their_own():
    queue = filled(wait("job_1", model="m"), wait("job_2", model="n"))
    queue.take("job_1", 0)
    assert queue.waiting() == {"n": 1}


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "remove", "back"]), st.integers(0, 8), st.sampled_from("abc")), max_size=60))
def test_nobody_is_lost_or_doubled_whatever_happens(steps):
    queue, there = FairQueue(), set()
    for number, (step, id_, consumer) in enumerate(steps):
        job = f"job_{id_}"
        if step == "add":
            queue.add(wait(job, consumer, tokens=id_), PLENTY, number)
            there.add(job)
        elif step == "back":
            queue.put_back(wait(job, consumer), number)
            there.add(job)
        elif step == "take" and there:
            first = order(queue)[0]
            queue.take(first, number)
            there.discard(first)
        else:
            queue.remove(job)
            there.discard(job)
        assert sorted(order(queue)) == sorted(there)
        assert [queue.standing(one, 1, number).ahead for one in order(queue)] == list(range(len(there)))
        assert queue.waiting() == ({"m": len(there)} if there else {})


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 2000)), min_size=1, max_size=60))
def test_while_two_wait_their_service_differs_by_two_jobs_at_most(asked):
    queue = filled(*(wait(f"job_{n}", consumer, tokens=tokens) for n, (consumer, tokens) in enumerate(asked)))
    left = {consumer: [tokens for who, tokens in asked if who == consumer] for consumer, _ in asked}
    served = dict.fromkeys(left, 0)
    longest = max(tokens for _, tokens in asked)
    for one in drain(queue):
        served[one.consumer] += one.request.tokens
        left[one.consumer].remove(one.request.tokens)
        waiting = [consumer for consumer, jobs in left.items() if jobs]
        assert all(served[one.consumer] - served[other] <= 2 * longest for other in waiting)

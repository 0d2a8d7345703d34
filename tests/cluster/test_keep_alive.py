"""One connection serves request after request, on both hops of an answer."""

from cluster.jobs import Attempt, End, JobKind


def attempt(number):
    return Attempt(
        job=f"job_{number}", number=1, node="node_a", kind=JobKind.CHAT, model="fake:words=16", model_digest="", max_tokens=100,
        request={"messages": [{"role": "user", "content": "hello"}]},
    )  # fmt: skip


async def test_answers_in_a_row_share_their_connections(node):
    for number in range(5):
        events = [event async for event in node.client.run(node.url, attempt(number))]
        assert isinstance(events[-1], End)
    assert len(node.script.peers) == 1  # worker to runtime
    assert sum(len(idle) for idle in node.client._session.connector._conns.values()) == 1  # replica to worker

"""One agent, one job: through the node protocol, and through the real Dispatcher and driver."""

from cluster.jobs import Admitted, End, EndReason, Text
from tests.edge_agents import words_of
from tests.waiting import until


async def test_an_edge_node_answers_through_the_node_protocol(edge):
    identity = edge.enroll()
    agent = await edge.honest(identity, words=20)
    await until(lambda: edge.node() and edge.node().is_healthy)
    attempt = edge.attempt()
    events = await edge.run(attempt)
    assert [event.seq for event in events] == list(range(22))
    assert events[0] == Admitted(seq=0, node="node_edge")
    assert "".join(event.content for event in events if isinstance(event, Text)) == "".join(words_of(attempt.job, 20))
    end = events[-1]
    assert isinstance(end, End)
    assert (end.reason, end.usage.counted_by, end.usage.completion_tokens) == (EndReason.STOP, "provider", 20)
    assert end.receipt is not None
    await until(lambda: not agent.ends)  # the end was acknowledged once it was read
    assert edge.node().running == 0

"""What an agent says of itself: its state for programs, sentences and a live line for people. Pure but for the clock."""

import time
from collections.abc import Mapping
from typing import Any

from provider_join.agent.agent import Agent
from provider_join.agent.enroll import agent_version


def state_of(agent: Agent) -> dict[str, Any]:
    """Describe a running agent."""
    node, now = agent.worker.node, time.monotonic()
    return {
        "node": node.id, "version": agent_version(), "platform": agent.enrollment.url,
        "connected": agent.session.welcome is not None,
        "connected_s": round(now - agent.connected_at) if agent.connected_at is not None else None,
        "next_try_s": max(0, round(agent.next_try_at - now)) if agent.next_try_at is not None else None,
        "problem": agent.last_problem, "paused": agent.paused, "leaving": agent.is_leaving,
        "healthy": node.is_healthy, "reason": node.reason, "runtime": node.runtime, "slots": node.slots, "running": node.running,
        "models": [model.name for model in node.models if model.fits],
        "not_offered": {model.name: model.trouble or "it does not fit" for model in node.models if not model.fits},
        "gpus": [gpu.name for gpu in node.gpus],
        "jobs_done": agent.tally.done, "jobs_failed": agent.tally.failed, "tokens": agent.tally.tokens,
        "tokens_per_s": round(agent.tally.per_s(now), 1), "unacknowledged": len(agent.session.held) - node.running,
    }  # fmt: skip


def live_line(state: Mapping[str, Any], earned_today: str | None) -> str:
    """Say in one line how the agent is."""
    if state["connected"]:
        where = "connected"
    elif state["next_try_s"] is not None:
        where = f"not connected, next try in {state['next_try_s']} s"
    else:
        where = "connecting"
    parts = [
        where,
        f"{state['running']} of {state['slots']} slots",
        f"{state['tokens_per_s']:g} tokens/s",
        f"{state['jobs_done']} jobs done",
    ]
    if earned_today is not None:
        parts.append(f"earned today {earned_today}")
    if state["paused"]:
        parts.append(f"paused: {state['paused']}")
    elif not state["healthy"]:
        parts.append(str(state["reason"]))
    return " · ".join(parts)


def in_words(state: Mapping[str, Any], said: Mapping[str, Any] | None) -> str:
    """Describe an agent for a person: `gfe agent status`."""
    rows = [
        ("node", state["node"]),
        ("platform", state["platform"]),
        ("connection", _connection(state)),
        ("shares", f"no: {state['paused']}" if state["paused"] else f"yes, {state['running']} of {state['slots']} slots in use"),
        ("runtime", state["runtime"] or state["reason"]),
        ("gpus", ", ".join(state["gpus"]) or "none that a driver shows"),
        ("models", ", ".join(state["models"]) or "none"),
        ("jobs", f"{state['jobs_done']} done, {state['jobs_failed']} failed, {state['tokens']} tokens since it started"),
    ]
    rows += [
        (str(name).replace("_", " "), _value(value)) for name, value in (said or {}).items() if name != "node_id" and value is not None
    ]
    return "\n".join(f"{name:<14} {value}" for name, value in rows)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_value, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return str(value)


def _connection(state: Mapping[str, Any]) -> str:
    if state["connected"]:
        return f"connected for {state['connected_s']} s"
    tries = f"; tries again in {state['next_try_s']} s" if state["next_try_s"] is not None else ""
    return (state["problem"] or "connecting") + tries


PLATFORM_STATES = {
    "paused": "This node is paused in the console: resume it there.",
    "revoked": "This node's credential was revoked: enroll again with a new code.",
    "quarantined": "The platform holds this node back after failed checks of its answers; the console shows them, and how to object.",
    "banned": "The platform has banned this node after repeated failed checks; the console shows how to object.",
    "deregistered": "This node was deregistered: enroll again with a new code.",
}


def reasons(state: Mapping[str, Any], said: Mapping[str, Any] | None) -> list[str]:
    """Say why no jobs come, one sentence per reason; empty: nothing stands in the way, jobs come when somebody asks for its models."""
    found = []
    if state["leaving"]:
        found.append("The agent is stopping.")
    if not state["connected"]:
        found.append(f"It is not connected: {state['problem'] or 'it is connecting now'}.")
    if state["paused"]:
        found.append(f"It takes no new jobs: {state['paused']}.")
    if not state["healthy"]:
        found.append(f"Its runtime is not ready: {state['reason']}.")
    elif not state["models"]:
        found.append("None of its models fits: pull a smaller one, e.g. `ollama pull llama3.2:3b`.")
    found += [f"{name} is not offered: {why}." for name, why in state["not_offered"].items()]
    if state["slots"] and state["running"] >= state["slots"]:
        found.append(f"All {state['slots']} slots are in use.")
    if said is None:
        return found
    if sentence := PLATFORM_STATES.get(str(said.get("state"))):
        found.append(sentence)
    if strikes := said.get("strikes"):
        found.append(f"Checks of its answers failed {strikes} time{'' if strikes == 1 else 's'}; at three the platform bans a node.")
    if said.get("tier") == "probation":
        found.append("It is new: in its probation it gets two jobs at once at most, and each one is checked.")
    found += [str(one) for one in said.get("reasons") or []]
    return found

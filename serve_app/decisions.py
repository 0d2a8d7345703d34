"""Why a job went where it went: kept with the job, told by `…/why/` in one sentence per node."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.nodes import Snapshot
from cluster.placement import PlacementRequest, explain

SENTENCES = 20  # nodes that are told of one by one; the others are counted

Decision = dict[str, Any]


def decision_of(request: PlacementRequest, snapshot: Snapshot, attempt: int, chosen: str | None) -> Decision:
    """Describe a decision as it is kept: the attempt, the chosen node, and a sentence for each of the first other ones."""
    reasons = explain(request, snapshot, chosen, limit=SENTENCES)
    others = len(snapshot.nodes) - len(reasons) - (chosen in snapshot.nodes)
    return {"attempt": attempt, "at": datetime.now(UTC).isoformat(), "node": chosen, "refused": reasons, "others": others}


def text_of(decisions: Sequence[Decision]) -> str:
    """Write decisions as they are stored."""
    return json.dumps(decisions, separators=(",", ":"))

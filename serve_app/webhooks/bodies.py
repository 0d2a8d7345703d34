"""What a receiver is told: type, time, and the job as `GET /api/computing/jobs/<id>/` tells it, without its texts."""

import json
from datetime import datetime
from typing import Any

from serve_app.api.job_rows import job_row
from serve_app.store.records import JobRecord

ERROR_CHARS = 2000
OUTPUT_CHARS = 256 * 1024


def body_of(type_: str, at: datetime, data: dict[str, Any]) -> str:
    """Write an event."""
    return json.dumps({"type": type_, "timestamp": at.isoformat(), "data": data}, separators=(",", ":"))


def job_data(record: JobRecord, *, has_result: bool) -> dict[str, Any]:
    """Tell a job: never its prompt; its answer only where that is asked for, and at most `OUTPUT_CHARS` of it."""
    row = job_row(record, {"id": record.node, "name": record.node, "provider": None} if record.node else None)
    del row["prompt"]
    said: dict[str, str] = row.pop("result") or {}
    result: dict[str, Any] = {"error": said["error"][:ERROR_CHARS]} if "error" in said else {}
    if has_result and "output" in said:
        result |= {"output": said["output"][:OUTPUT_CHARS], "is_cut": len(said["output"]) > OUTPUT_CHARS}
    return row | {"result": result or None}

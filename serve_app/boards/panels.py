"""Boards as values, and how Grafana reads them: one JSON file each, for whichever Prometheus the viewer chooses."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39  # Grafana 10 and newer
WIDTH = 24  # of the grid
SOURCE = {"type": "prometheus", "uid": "${source}"}
COUNT, PER_SECOND, SECONDS, AGO, SHARE, PERCENT, BYTES, CREDITS = "short", "cps", "s", "s", "percentunit", "percent", "bytes", "short"


@dataclass(frozen=True, slots=True)
class Line:
    """What one curve or number shows. `legend` may name labels, as `{{code}}`."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture. `unit`: Grafana's word. `is_number`: the value now, large; else curves. `red_from`: from there on it is bad."""

    title: str
    says: str
    unit: str
    lines: tuple[Line, ...]
    is_number: bool = False
    red_from: float | None = None

    def to_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Write it at a place of the grid."""
        steps = [{"color": "green", "value": None}]
        if self.red_from is not None:
            steps.append({"color": "red", "value": self.red_from})  # type: ignore[dict-item]
        return {
            "id": number,
            "type": "stat" if self.is_number else "timeseries",
            "title": self.title,
            "description": self.says,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": {"unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
            "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if self.is_number else {"legend": {"displayMode": "list", "placement": "bottom"}},
            "targets": [
                {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": line.expression, "legendFormat": line.legend}
                for n, line in enumerate(self.lines)
            ],
        }  # fmt: skip

    @property
    def width(self) -> int:
        """In columns of the grid."""
        return 4 if self.is_number else 8

    @property
    def height(self) -> int:
        """In rows of the grid."""
        return 4 if self.is_number else 8


@dataclass(frozen=True, slots=True)
class Board:
    """Panels under a title, numbers first."""

    name: str
    title: str
    says: str
    panels: tuple[Panel, ...]

    def to_json(self) -> str:
        """Write the file."""
        board = {
            "uid": f"gfe-{self.name}",
            "title": f"GPU-For-Everyone: {self.title}",
            "description": f"{self.says} Made by `python -m serve_app.boards helm/gpu-for-everyone/boards`; do not edit.",
            "tags": ["gpu-for-everyone"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
            "panels": [panel.to_json(number, x, y) for number, (panel, x, y) in enumerate(_placed(self.panels), 1)],
        }
        return json.dumps(board, indent=1) + "\n"


def _placed(panels: tuple[Panel, ...]) -> Iterator[tuple[Panel, int, int]]:
    """Place panels from left to right, row below row; a row is as high as its first panel."""
    x = y = height = 0
    for panel in panels:
        if x + panel.width > WIDTH or (height and panel.height != height):
            x, y = 0, y + height
        height = panel.height
        yield panel, x, y
        x += panel.width

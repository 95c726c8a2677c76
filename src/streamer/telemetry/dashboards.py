"""Grafana dashboards, generated from the panels: python -m streamer.telemetry.dashboards DIRECTORY."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from streamer.telemetry.panels import DASHBOARDS, Dashboard, Panel

SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH = 24
"""Width of Grafana's grid."""


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """Return the JSON model of a dashboard for Grafana."""
    panels, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(dashboard.panels, 1):
        width, height = (6, 4) if panel.number else (12, 8)
        if x + width > WIDTH:
            x, y = 0, y + row
        row = height
        panels.append({"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **_panel(panel)})
        x += width
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["streamer"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["streamer"], "title": "Streamer", "asDropdown": True}],
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [
        {"color": color, "value": value}
        for color, value in (("orange", panel.warn), ("red", panel.bad))
        if value is not None
    ]
    defaults = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    return {
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "exemplar": not panel.number,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def write(folder: Path) -> list[Path]:
    """Write one file per dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dashboard in DASHBOARDS:
        path = folder / f"{dashboard.uid}.json"
        path.write_text(json.dumps(grafana(dashboard), indent=1) + "\n")
        paths.append(path)
    return paths


if __name__ == "__main__":
    write(Path(sys.argv[1]))

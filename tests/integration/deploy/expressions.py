"""The PromQL of the dashboard and of the alert rules, and what it asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[3] / "deploy"

#: Prometheus itself adds these to whatever it scrapes.
ADDED_LABELS = {"job", "instance", "role"}
ADDED_METRICS = {"up"}

_SELECTOR = re.compile(r"\b((?:dramaturg|process)_\w+|up)\b(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


@dataclass(frozen=True)
class Expression:
    """One expression, with the panel or alert that it belongs to."""

    where: str
    text: str

    @property
    def metrics(self) -> dict[str, set[str]]:
        """The metrics that it asks for, each with the labels that it selects by."""
        wanted: dict[str, set[str]] = {}
        for name, matchers in _SELECTOR.findall(self.text):
            wanted.setdefault(name, set()).update(_MATCHER.findall(matchers))
        return wanted

    @property
    def grouped_by(self) -> set[str]:
        """The labels that it groups by."""
        names = (name.strip() for group in _GROUPING.findall(self.text) for name in group.split(","))
        return {name for name in names if name}

    def over(self, window: str) -> str:
        """The expression with a window in the place of Grafana's variable."""
        return self.text.replace("$__rate_interval", window)


def panels() -> Iterator[Expression]:
    dashboard: Any = json.loads((DEPLOY / "grafana" / "dramaturg.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield Expression(panel["title"], target["expr"])


def alerts() -> Iterator[Expression]:
    rules = (DEPLOY / "rules.yml").read_text()
    names, texts = re.findall(r"- alert: (\w+)", rules), re.findall(r"^ +expr: (.+)$", rules, re.MULTILINE)
    for name, text in zip(names, texts, strict=True):
        yield Expression(name, text)

"""Draw the state charts of docs/architecture.md from the tables that the code runs on: `python docs/make_charts.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import regions

from dramaturg_coordinator.core import states
from dramaturg_protocol.events import TYPES, EventBody, RunReset, RunRetried

SCRIPT: Final = "make_charts.py"
OUTSIDE: Final = "[*]"

#: A closed run takes these only.
_GO_ON: Final = {RunRetried, RunReset}

_NAMES: Final = {body: name for name, body in TYPES.items()}

Table = Mapping[str, Mapping[type[EventBody], str]]


def chart(table: Table) -> str:
    """A table of transitions as a Mermaid state diagram; what changes nothing is a note."""
    arrows: list[str] = []
    notes: list[str] = []
    for source, row in table.items():
        by_target: defaultdict[str, list[str]] = defaultdict(list)
        for body, target in row.items():
            by_target[target].append(_NAMES[body])
        for target, names in by_target.items():
            if target == source:
                notes += [
                    f"    note right of {source}",
                    "        stays here on",
                    *[f"        {name}" for name in names],
                ]
                notes.append("    end note")
            else:
                arrows.append(f"    {source} --> {target} : {', '.join(names)}")
    arrows += [f"    {source} --> {OUTSIDE}" for source, row in table.items() if not set(row) - _GO_ON]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *notes, "```"])


def run_states() -> str:
    """A run."""
    return chart({str(phase): {body: str(to) for body, to in row.items()} for phase, row in states.RUN.items()})


def step_states() -> str:
    """A step: outside is before it is asked for and after its outcome."""
    named: dict[str, dict[type[EventBody], str]] = {}
    for phase, row in states.STEP.items():
        named[str(phase or OUTSIDE)] = {body: str(to or OUTSIDE) for body, to in row.items()}
    return chart(named)


def timer_states() -> str:
    """A timer."""
    words = {False: OUTSIDE, True: "RUNNING"}
    return chart({words[at]: {body: words[to] for body, to in row.items()} for at, row in states.TIMER.items()})


PAGES: Final[Mapping[str, regions.Parts]] = {
    "architecture.md": {"run-states": run_states, "step-states": step_states, "timer-states": timer_states},
}

if __name__ == "__main__":
    regions.write(SCRIPT, PAGES)

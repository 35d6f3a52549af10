"""Which build ran how many runs: bars by build, and the same as text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from labkit.ask.history import count_events
from lessons.deployments import builds

TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
Seen = Mapping[str, Sequence[WorkflowHistory]]
# Colours that differ in lightness, each with a pattern of its own; a fifth build begins anew.
LOOKS: list[dict[str, Any]] = [
    {"facecolor": "#9cc3e6", "hatch": ""},
    {"facecolor": "#ffffff", "hatch": "..."},
    {"facecolor": "#f2b8a0", "hatch": "///"},
    {"facecolor": "#e8e8e8", "hatch": "xxx"},
]
FONT = 12
PLAIN = {"facecolor": "white", "edgecolor": "none", "pad": 1}
MIDDLE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": FONT}


def table(seen: Seen) -> str:
    """A line for each moment: how many runs ended on which build, and how many failed."""
    lines = []
    for moment, histories in seen.items():
        counts = ", ".join(f"{number} on {build}" for build, number in _counts(histories))
        failed = sum(count_events(history)["WorkflowExecutionFailed"] for history in histories)
        lines.append(f"{moment:<16}{counts}" + (f"; {failed} failed" if failed else ""))
    return "\n".join(lines)


def draw(seen: Seen) -> Figure:
    """A bar for each moment, in as many parts as builds had runs. The numbers stand in them."""
    names = sorted({build for histories in seen.values() for build, _ in _counts(histories)})
    looks = {name: LOOKS[place % len(LOOKS)] for place, name in enumerate(names)}
    figure, axes = plt.subplots(figsize=(11, 1.2 + 0.5 * len(seen)), layout="constrained")
    for y, histories in enumerate(seen.values()):
        left = 0
        for build, number in _counts(histories):
            axes.barh(y, number, left=left, edgecolor="black", **looks[build])
            axes.text(left + number / 2, y, str(number), bbox=PLAIN, **MIDDLE)
            left += number
    _dress(figure, axes, list(seen), looks)
    axes.set_xlabel("runs", fontsize=FONT)
    return figure


def _dress(figure: Figure, axes: Any, rows: list[str], looks: dict[str, Any]) -> None:
    """The names of the rows, and of the builds."""
    axes.set_yticks(range(len(rows)), rows, fontsize=FONT)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Patch(edgecolor="black", label=f"build {name}", **look) for name, look in looks.items()
    ]
    figure.legend(handles=handles, fontsize=FONT, loc="outside lower left", ncols=len(handles))
    plt.close(figure)


def lives(runs: Mapping[str, WorkflowHistory]) -> Figure:
    """A bar for each run, from its start to its end, in the colours of the builds that ran it."""
    spans = {name: list(_spans(history)) for name, history in runs.items()}
    names = sorted({build for found in spans.values() for build, *_ in found})
    looks = {name: LOOKS[place % len(LOOKS)] for place, name in enumerate(names)}
    figure, axes = plt.subplots(figsize=(11, 1.2 + 0.5 * len(runs)), layout="constrained")
    for y, found in enumerate(spans.values()):
        for build, begin, end in found:
            axes.barh(y, end - begin, left=begin, edgecolor="black", **looks[build])
    _dress(figure, axes, list(runs), looks)
    axes.set_xlabel("seconds since the run began", fontsize=FONT)
    return figure


def _spans(history: WorkflowHistory) -> Iterator[tuple[str, float, float]]:
    """Each build of a run, and from when to when it was the last to run it, in seconds."""
    began = history.events[0].event_time.ToDatetime()
    tasks = [e for e in history.events if e.event_type == TASK_COMPLETED]
    ends = [*tasks[1:], history.events[-1]]
    since = 0.0
    for task, end in zip(tasks, ends, strict=True):
        done = task.workflow_task_completed_event_attributes
        until = (end.event_time.ToDatetime() - began).total_seconds()
        yield done.deployment_version.build_id, since, until
        since = until


def _counts(histories: Sequence[WorkflowHistory]) -> Iterator[tuple[str, int]]:
    """The builds on which runs ended, by name."""
    yield from sorted(Counter(builds(history)[-1] for history in histories).items())

"""Which build ran how many runs: bars by build, and the same as text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from temporalio.client import WorkflowHistory

from labkit.ask.deployments import builds
from labkit.ask.history import count_events

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
    axes.set_yticks(range(len(seen)), list(seen), fontsize=FONT)
    axes.set_ylim(len(seen) - 0.5, -0.5)
    axes.set_xlabel("runs", fontsize=FONT)
    axes.tick_params(axis="x", labelsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(edgecolor="black", label=f"build {name}", **looks[name]) for name in names]
    figure.legend(handles=handles, fontsize=FONT, loc="outside lower left", ncols=len(handles))
    plt.close(figure)
    return figure


def _counts(histories: Sequence[WorkflowHistory]) -> Iterator[tuple[str, int]]:
    """The builds on which runs ended, by name."""
    yield from sorted(Counter(builds(history)[-1] for history in histories).items())

"""Runs side by side: their figures over time, with the lines of the gate, and as a table."""

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labkit.pipeline.messages import QualityMetrics
from labkit.pipeline.work.quality import Row, gate
from labkit.views.image import as_image

FONT = 12
LABELS = {"accuracy": "accuracy", "mae": "MAE", "r2_score": "R²"}
DARK = "#1f4e79"
LOOKS: dict[bool, dict[str, Any]] = {
    True: {"marker": "o", "color": DARK, "label": "passes"},
    False: {"marker": "X", "color": "#8b1a1a", "label": "falls short"},
}
NAMED_AT_MOST = 12


@dataclass(frozen=True)
class Measured:
    """One run: its file's name, when it was trained, and its figures."""

    name: str
    at: datetime
    metrics: QualityMetrics

    @property
    def gate(self) -> list[Row]:
        return gate(self.metrics)

    @property
    def verdict(self) -> str:
        """What the gate makes of the figures, in words."""
        *asked, approval = self.gate
        if short := [LABELS[row.name] for row in asked if not row.ok]:
            return f"falls short: {', '.join(short)}"
        return "asks for prod" if approval.ok else "passes, stays on dev"


class Comparison:
    """What notebooks show as a picture and a table, and ``print`` as the table alone."""

    def __init__(self, runs: Sequence[Measured]) -> None:
        self.runs = sorted(runs, key=lambda run: run.at)

    def __str__(self) -> str:
        width = max(len(run.name) for run in self.runs)
        heads = f"{'file':<{width}}{'accuracy':>10}{'MAE':>7}{'R²':>7}  the gate"
        lines = (
            f"{run.name:<{width}}{it.accuracy:>10.2f}{it.mae:>7.2f}{it.r2_score:>7.2f}  "
            f"{run.verdict}"
            for run in self.runs
            for it in (run.metrics,)
        )
        return "\n".join([heads, *lines])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        image = as_image(self.draw(), "The figures of these runs over time, with the gate's lines")
        table = f"<pre>{html.escape(str(self))}</pre>"
        return {"text/html": image + table, "text/plain": str(self)}

    def draw(self) -> Figure:
        """A panel a figure: a point a run, from the oldest to the newest, and the gate's lines."""
        figure = plt.figure(figsize=(11, 7), layout="constrained")
        plt.close(figure)  # shown by who asks for it, and not once more at the end of the cell
        panels = figure.subplots(len(LABELS), sharex=True)
        for axes, name in zip(panels, LABELS, strict=True):
            self._draw_on(axes, name)
        step = -(-len(self.runs) // NAMED_AT_MOST)
        named = self.runs[::step]
        ticks = [f"{run.name}\n{run.at:%H:%M:%S}" for run in named]
        panels[-1].set_xticks(range(0, len(self.runs), step), ticks, fontsize=FONT - 1)
        marks = [Line2D([], [], linestyle="", markersize=9, **look) for look in LOOKS.values()]
        figure.legend(handles=marks, loc="outside lower left", ncols=2, fontsize=FONT)
        return figure

    def _draw_on(self, axes: Any, name: str) -> None:
        values = [asdict(run.metrics)[name] for run in self.runs]
        # The lines of the newest run. Only another data set, or a changed gate, has others.
        lines = [row for row in self.runs[-1].gate if row.name.endswith(name)]
        asked = next(row for row in lines if row.name == name)
        short = [not row.ok for run in self.runs for row in run.gate if row.name == name]
        axes.plot(values, color=DARK, linewidth=1, zorder=1)
        for good in LOOKS:
            found = [(x, value) for x, value in enumerate(values) if short[x] is not good]
            if found:
                axes.scatter(*zip(*found, strict=True), s=80, zorder=2, **LOOKS[good])
        for row in lines:
            look = "--" if row is asked else ":"
            axes.axhline(row.limit, color="black", linestyle=look, linewidth=1)
            axes.annotate(
                f"{'gate' if row is asked else 'prod'}: {row.must_be} {row.limit:.2f}",
                (1.005, row.limit),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=FONT - 1,
            )
        axes.margins(x=0.06, y=0.3)
        axes.set_ylabel(asked.label if name == "mae" else LABELS[name], fontsize=FONT)
        axes.spines[["top", "right"]].set_visible(False)

"""A run as a picture: a bar an attempt, the gaps between them, and the waits for a human."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from labkit.ask.history import activities, has_ended, own_clock, times
from labkit.core.journal import Attempt
from labkit.views import image

BACK_OFF = "back-off, still running"
# Colours that differ in lightness too, each with a pattern and a word of its own.
LOOKS: dict[str, dict[str, Any]] = {
    "completed": {"facecolor": "#1f4e79", "hatch": ""},
    "failed": {"facecolor": "#f2b8a0", "hatch": "///"},
    "lost": {"facecolor": "#ffffff", "hatch": "xxx"},
    "running": {"facecolor": "#9cc3e6", "hatch": "..."},
    BACK_OFF: {"facecolor": "#fff3c4", "hatch": "---"},
    "waiting for a human": {"facecolor": "#e8e8e8", "hatch": "oo"},
}
APPROVAL = b'"awaiting_prod_approval"'
FONT = 12
LABELLED_AT_MOST = 8
TICKS, LATE_SECONDS, DAY = 9, 10_000, 86_400


@dataclass
class Bar:
    """From ``start`` to ``end``, in seconds since the run started."""

    row: str
    start: float
    end: float
    look: str
    number: int = 0


def bars(history: WorkflowHistory, attempts: list[Attempt], now: datetime) -> list[Bar]:
    """What there is to draw: attempts from the ledger, else the last one from the history.

    Args:
        history: the run's event history.
        attempts: the ledger's attempts of the same workflow.
        now: where the bars of what still runs end.
    """
    zero = history.events[0].event_time.ToDatetime(UTC)
    is_open, now = not has_ended(history), own_clock(history, now)
    found: list[Bar] = []
    drawn: set[str] = set()
    for record in activities(history):
        ours = [a for a in attempts if a.activity_id == record.activity_id]
        if ours and record.activity_id in drawn:
            continue  # asked for anew: all its attempts are there
        drawn.add(record.activity_id)
        for a in ours:
            end = _seconds(a.ended or _next_start(a, ours) or now, zero)
            found.append(Bar(a.activity_id, _seconds(a.started, zero), end, a.outcome, a.number))
        if ours and record.outcome == "running" and ours[-1].outcome == "failed" and is_open:
            found.append(Bar(record.activity_id, found[-1].end, _seconds(now, zero), BACK_OFF))
        if not ours and record.started:
            start = _seconds(record.started, zero)
            end = _seconds(record.ended or now, zero)
            look = record.outcome if record.outcome in LOOKS else "failed"
            found.append(Bar(record.activity_id, start, end, look, record.attempts))
    return sorted(found + _waits(history, zero, now), key=lambda bar: bar.start)


def draw(bars: list[Bar], title: str) -> Figure:
    """Draw a timeline that is readable in grey and at the back of a room.

    A wait for a human that is longer than everything else is drawn shorter than it was: the axis
    is broken there, and the bar says how long it was.
    """
    figure = plt.figure(layout="constrained")
    _draw_on(figure, bars)
    figure.suptitle(title, fontsize=FONT + 1, x=0.01, ha="left")
    plt.close(figure)
    return figure


def as_image(bars: list[Bar]) -> str:
    """The same as an ``<img>`` whose alternative text is the table. Safe in any thread."""
    figure = Figure(layout="constrained")
    _draw_on(figure, bars)
    return image.as_image(figure, f"Timeline\n{table(bars)}")


def _draw_on(figure: Figure, bars: list[Bar]) -> None:
    rows = list(dict.fromkeys(bar.row for bar in bars))
    real, drawn = _squeezed(bars)
    scale: Callable[[Any], Any] = partial(np.interp, xp=real, fp=drawn)
    figure.set_size_inches(11, 1.8 + 0.55 * len(rows))
    axes = figure.subplots()
    for bar in bars:
        start, end = scale([bar.start, bar.end])
        width = max(end - start, 0.004 * drawn[-1])
        look = LOOKS[bar.look]
        axes.barh(rows.index(bar.row), width, left=start, height=0.6, edgecolor="black", **look)
    for y, row in enumerate(rows):
        ours = [bar for bar in bars if bar.row == row]
        for before, after in itertools.pairwise(bar for bar in ours if bar.look != BACK_OFF):
            x = scale([before.end, after.start])
            axes.plot(x, [y, y], color="black", linewidth=1, linestyle=":", zorder=0)
            if len(ours) <= LABELLED_AT_MOST and x[1] - x[0] > 0.05 * drawn[-1]:
                text = f"{after.start - before.end:.1f} s"
                axes.text(x.mean(), y - 0.05, text, ha="center", va="bottom", fontsize=FONT - 1)
    axes.set_yticks(range(len(rows)), [_name(row, bars) for row in rows], fontsize=FONT)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.set_xlim(0, 1.01 * drawn[-1])
    ticks = _ticks(real, drawn)
    axes.set_xticks(scale(ticks), [_number(tick) for tick in ticks])
    for bar in _shortened(bars):
        _break_axis(axes, rows.index(bar.row), bar, float(scale((bar.start + bar.end) / 2)))
    axes.set_xlabel("seconds since the run started", fontsize=FONT)
    axes.tick_params(axis="x", labelsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    used = [look for look in LOOKS if any(bar.look == look for bar in bars)]
    handles = [Patch(edgecolor="black", label=look, **LOOKS[look]) for look in used]
    figure.legend(handles=handles, fontsize=FONT, loc="outside lower left", ncols=len(handles))


def _break_axis(axes: Axes, y: int, bar: Bar, x: float) -> None:
    """Say that a bar is longer than it is drawn: its length on it, and two strokes on the axis."""
    seconds = bar.end - bar.start
    length = f"{seconds / DAY:.3g} days" if seconds > 2 * DAY else f"{_number(seconds)} s"
    plain = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(x, y, length, ha="center", va="center", fontsize=FONT, bbox=plain)
    stroke, place = [(-1, -2), (1, 2)], axes.get_xaxis_transform()
    gap = 0.004 * axes.get_xlim()[1]
    for at in (x - gap, x + gap):
        axes.plot(
            [at], [0], color="black", marker=stroke, markersize=14, transform=place, clip_on=False
        )


def table(bars: list[Bar]) -> str:
    """The same as text: one line a bar, with the gap before it."""
    lines = [f"{'what':<24}{'attempt':<9}{'outcome':<21}{'after':>9}{'took':>10}{'gap before':>13}"]
    ends: dict[str, float] = {}
    for bar in bars:
        gap = f"{bar.start - ends[bar.row]:.2f} s" if bar.row in ends and bar.number else ""
        ends[bar.row] = bar.end
        number = str(bar.number) if bar.number else ""
        after, took = f"{bar.start:.2f} s", f"{bar.end - bar.start:.2f} s"
        line = f"{bar.row:<24}{number:<9}{bar.look:<21}{after:>9}{took:>10}{gap:>13}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _squeezed(bars: list[Bar]) -> tuple[list[float], list[float]]:
    """Points of a scale on which a wait for a human has at most half the room of all the rest.

    Returns:
        Seconds, and where they are drawn; between the points the scale is linear.
    """
    waits, rest = _waits_and_rest(bars)
    end = max((bar.end for bar in bars), default=0.0) + 1e-6
    real, drawn = [0.0], [0.0]
    for wait in waits:
        drawn.append(drawn[-1] + wait.start - real[-1])
        drawn.append(drawn[-1] + min(wait.end - wait.start, rest / 2))
        real += [wait.start, wait.end]
    return [*real, end], [*drawn, drawn[-1] + end - real[-1]]


def _shortened(bars: list[Bar]) -> list[Bar]:
    """The bars that are drawn shorter than they are."""
    waits, rest = _waits_and_rest(bars)
    return [bar for bar in waits if bar.end - bar.start > rest / 2]


def _waits_and_rest(bars: list[Bar]) -> tuple[list[Bar], float]:
    """The waits for a human, and how many seconds are no such wait."""
    waits = [bar for bar in bars if bar.look == "waiting for a human"]
    end = max((bar.end for bar in bars), default=0.0) + 1e-6
    return waits, end - sum(bar.end - bar.start for bar in waits)


def _ticks(real: list[float], drawn: list[float]) -> list[float]:
    """Round seconds where the scale is true; none in a shortened bar, nor long after the start."""
    found: list[float] = []
    room = drawn[-1]
    for (start, left), (end, right) in itertools.pairwise(zip(real, drawn, strict=True)):
        true = right - left > 0.99 * (end - start)
        number = round(TICKS * (right - left) / room)
        if true and number and start < LATE_SECONDS:
            ticks = MaxNLocator(number, steps=[1, 2, 5, 10]).tick_values(start, end)
            found += [float(t) for t in ticks if start <= t <= end and t not in found]
    return found


def _waits(history: WorkflowHistory, zero: datetime, now: datetime) -> list[Bar]:
    """From the timer of the approval request to its end: the workflow waited for a human.

    Its step is listed right before that timer. A timer between two askings has nothing to do with
    a human.
    """
    found: dict[int, Bar] = {}
    for before, event in itertools.pairwise(history.events):
        when = _seconds(event.event_time.ToDatetime(UTC), zero)
        if _lists_approval(before) and event.HasField("timer_started_event_attributes"):
            until = _seconds(now, zero)
            found[event.event_id] = Bar("approval", when, until, "waiting for a human")
        for kind in ("timer_canceled_event_attributes", "timer_fired_event_attributes"):
            started = getattr(event, kind).started_event_id
            if event.HasField(kind) and started in found:
                found[started].end = when
    return list(found.values())


def _lists_approval(event: HistoryEvent) -> bool:
    upserted = event.upsert_workflow_search_attributes_event_attributes.search_attributes
    step = upserted.indexed_fields.get("PipelineStep")  # [] would put one there
    return step is not None and step.data == APPROVAL


def _next_start(attempt: Attempt, all_: list[Attempt]) -> datetime | None:
    later = [a.started for a in all_ if a.started > attempt.started]
    return min(later, default=None) if attempt.outcome == "lost" else None


def _number(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _seconds(when: datetime, zero: datetime) -> float:
    return max(0.0, (when - zero).total_seconds())


def _name(row: str, bars: list[Bar]) -> str:
    number = sum(bar.row == row and bar.number > 0 for bar in bars)
    return row if number < 2 else f"{row}\n(tried {times(number)})"

"""All runs as a table, and some of them side by side."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from labkit.ask.loop import Loop
from labkit.ask.runs import Row, age, list_rows
from labkit.core.settings import LabError
from labkit.pipeline.messages import QualityMetrics
from labkit.run import Run

if TYPE_CHECKING:
    from pandas import DataFrame

    from labkit.views.compare import Comparison

SHOWN, COMPARED = 20, 20
COLUMNS = ("file", "status", "step", "age", "accuracy", "MAE", "R²", "id")


class Lab(Loop, Protocol):
    """What is needed of a :class:`labkit.lab.Lab`."""

    def run(self, id: str) -> Run: ...


class Runs(list[Run]):
    """Runs, newest first: a list as any other, which a notebook shows as a table."""

    def __init__(self, runs: Iterable[Run], rows: Sequence[Row]) -> None:
        super().__init__(runs)
        self._rows = rows

    def frame(self) -> "DataFrame":
        """A row a run. Figures come from PostgreSQL, and are absent while it does not answer."""
        from pandas import DataFrame

        now, found = datetime.now(UTC), {}
        with suppress(LabError):
            found = _experiments([row.id for row in self._rows])
        rows = [
            (row.name, row.status, row.step, age(row.started, now), *_figures(row, found), row.id)
            for row in self._rows
        ]
        return DataFrame(rows, columns=list(COLUMNS))

    def _repr_html_(self) -> str:
        table: str = self.frame().head(SHOWN).to_html(index=False, na_rep="", border=0, **_FIGURES)
        return f"{table}<p>{self._more()}</p>"

    def __repr__(self) -> str:
        if not self:
            return "No runs yet."
        table = self.frame().head(SHOWN).to_string(index=False, na_rep="", **_FIGURES)
        return f"{table}\n{self._more()}"

    def _more(self) -> str:
        shown = f"The newest {SHOWN} of " if len(self) > SHOWN else ""
        return f"{shown}{len(self)} run{'' if len(self) == 1 else 's'}."


_FIGURES: dict[str, Any] = {"float_format": "{:.2f}".format}


def runs(lab: Lab) -> Runs:
    """The newest runs that Temporal remembers, newest first; in a notebook, as a table.

    Raises:
        LabError: the Temporal server does not answer.
    """
    rows = lab.call(list_rows)
    return Runs((lab.run(row.id) for row in rows), rows)


def compare(lab: Lab, *chosen: Run) -> "Comparison":
    """The figures of runs over time, with the lines of the gate, and as a table.

    Args:
        lab: the lab.
        chosen: which; the newest ones that have figures, when none is named.

    Raises:
        LabError: none of them has figures, or PostgreSQL does not answer.
    """
    from labkit.views.compare import Comparison, Measured

    rows = {row.id: row for row in lab.call(list_rows)}
    ids = [run.id for run in chosen] or list(rows)
    found = _experiments(ids)
    shown = [id for id in ids if id in found][: len(chosen) or COMPARED]
    if not shown:
        raise LabError("None of these runs has figures yet: a model is measured by its training.")
    return Comparison(
        [
            Measured(
                rows[id].name if id in rows else id, found[id]["started_at"], _metrics(found[id])
            )
            for id in shown
        ]
    )


def _experiments(ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The last row of each run in the table ``experiments``.

    Raises:
        LabError: PostgreSQL does not answer.
    """
    from psycopg2 import Error
    from temporalio.exceptions import ApplicationError

    from labkit.pipeline.work import tracking

    try:
        return {row["workflow_id"]: row for row in tracking.experiments(*ids)}
    except (Error, ApplicationError) as err:
        raise LabError(
            f"PostgreSQL, where figures are kept, says: {err}. Does it run? lab.postgres.start()"
        ) from None


def _metrics(row: dict[str, Any]) -> QualityMetrics:
    """The figures of a row, with the gate of the data set that the model was trained on."""
    from labkit.pipeline.work.description import of_run

    described = of_run(row["model_id"])
    return QualityMetrics(
        accuracy=float(row["accuracy"]),
        mae=float(row["mae"]),
        r2_score=float(row["r2_score"]),
        within=described.within,
        unit=described.unit,
        limits=described.gate.model_dump() if described.gate else {},
    )


def _figures(row: Row, found: dict[str, dict[str, Any]]) -> tuple[float | None, ...]:
    """Accuracy, MAE and R². The first is known to Temporal, too."""
    if row.id not in found:
        return row.accuracy, None, None
    return tuple(float(found[row.id][name]) for name in ("accuracy", "mae", "r2_score"))

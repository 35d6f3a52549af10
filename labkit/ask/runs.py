"""The list of runs, as Temporal's visibility store knows it: one request, no workflow is asked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import Client

from labkit.ask.look import WORDS
from labkit.pipeline.messages import WORKFLOW_TYPE
from labkit.pipeline.workflow import ACCURACY, PIPELINE_STEP

LISTED_AT_MOST = 500
ANSWER_LIMIT = timedelta(seconds=5)
WAITING = "waiting for approval"
FILTERS = ("all", "running", WAITING, "completed", "failed or stopped")


@dataclass(frozen=True)
class Row:
    """One run in the list. ``state`` is running, or how the run ended, in Temporal's word."""

    id: str
    state: str
    step: str
    started: datetime
    accuracy: float | None = None

    @property
    def name(self) -> str:
        """The id without what is the same for all, and without the time, which age tells."""
        return re.sub(r"^mlops-\d{8}-\d{6}-\d{3}-", "", self.id)

    @property
    def status(self) -> str:
        """The status in words."""
        if self.state != "running":
            return WORDS[self.state]
        return WAITING if self.step == "awaiting_prod_approval" else "running"

    @property
    def words(self) -> str:
        """Status and step in words, as short as they can be."""
        if self.status == "running" and self.step:
            return self.step.replace("_", " ")
        if self.state == "completed" and self.accuracy is not None:
            return f"completed, accuracy {self.accuracy:.2f}"
        if self.state in ("running", "completed") or not self.step:
            return self.status
        return f"{self.status} at {self.step.replace('_', ' ')}"

    def matches(self, chosen: str, text: str = "") -> bool:
        """True when it belongs under a filter, and its id holds a text."""
        kind = self.status if self.status in FILTERS else FILTERS[-1]
        return chosen in ("all", kind) and text.strip().lower() in self.id.lower()


async def list_rows(client: Client, limit: int = LISTED_AT_MOST) -> list[Row]:
    """The newest runs, newest first; of a workflow that was run again, only the last run.

    Args:
        client: any client of the namespace.
        limit: how many at most.

    Raises:
        RPCError: the server does not answer.
    """
    found: dict[str, Row] = {}
    query = f"WorkflowType='{WORKFLOW_TYPE}'"
    async for run in client.list_workflows(query, limit=limit, rpc_timeout=ANSWER_LIMIT):
        attributes = run.typed_search_attributes
        row = Row(
            run.id,
            run.status.name.lower() if run.status else "running",
            attributes.get(PIPELINE_STEP) or "",
            run.start_time,
            attributes.get(ACCURACY),
        )
        if run.id not in found or found[run.id].started < row.started:
            found[run.id] = row
    return sorted(found.values(), key=lambda row: row.started, reverse=True)


def summary(rows: Sequence[Row]) -> str:
    """How many runs there are, and of which status, in words."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    if not rows:
        return "No runs yet."
    total = f"the newest {len(rows)}" if len(rows) >= LISTED_AT_MOST else str(len(rows))
    each = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return f"{total} run{'s' if len(rows) != 1 else ''}: {each}"


def age(started: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: ``42 s``, ``7 min``, ``3 h``, ``2 d``."""
    seconds = max(0, int((now - started).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"

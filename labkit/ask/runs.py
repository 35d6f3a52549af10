"""The list of runs, as Temporal's visibility store knows it: one request, no workflow is asked."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.converter import decode_typed_search_attributes

from labkit.pipeline.listing import ACCURACY, OUTCOME, PIPELINE_STEP
from labkit.pipeline.messages import OUTCOMES, WORKFLOW_TYPE, Status

LISTED_AT_MOST = 500
PAGE = 500
ANSWER_LIMIT = timedelta(seconds=5)
ALL = f"WorkflowType='{WORKFLOW_TYPE}'"
OPEN = f"{ALL} AND CloseTime IS NULL"
# The server's own marks of a run whose workflow task fails again and again, or that is paused.
PROBLEMS, PAUSES = "TemporalReportedProblems", "TemporalPauseInfo"
STUCK, PAUSED = "stuck", "paused"
WAITING = "waiting for approval"
# Of those that have ended: all that completed, by their outcome, and all others, by how they ended.
COMPLETED, OTHERWISE = "completed", "failed or stopped"
WORDS = {
    "completed": "completed",
    "failed": "failed",
    "canceled": "cancelled",
    "terminated": "terminated",
    "timed_out": "timed out",
    "continued_as_new": "continued as a new run",
}
FILTERS = (
    *("all", "running", WAITING, COMPLETED, *OUTCOMES.values()),
    *(OTHERWISE, *list(WORDS.values())[1:-1]),
)


@dataclass(frozen=True)
class Row:
    """One run in the list.

    ``state`` is running, or how the run ended, in Temporal's word; ``held`` is why one that runs
    does not move: ``stuck`` or ``paused``, else empty. ``outcome`` is what came of one that has
    completed; empty where neither the server nor the run's result says it.
    """

    id: str
    state: str
    step: str
    started: datetime
    accuracy: float | None = None
    held: str = ""
    outcome: str = ""

    @property
    def name(self) -> str:
        """The id without what is the same for all, and without the time, which age tells."""
        return re.sub(r"^mlops-\d{8}-\d{6}-\d{3}-", "", self.id)

    @property
    def status(self) -> str:
        """The status in words."""
        if self.state != "running":
            return (self.state == COMPLETED and self.outcome) or WORDS[self.state]
        if self.held:
            return self.held
        return WAITING if self.step == "awaiting_prod_approval" else "running"

    @property
    def words(self) -> str:
        """Status and step in words, as short as they can be."""
        if self.status == "running" and self.step:
            return self.step.replace("_", " ")
        if self.state == COMPLETED and self.accuracy is not None:
            return f"{self.status}, accuracy {self.accuracy:.2f}"
        if self.status in (WAITING, "running", "completed") or not self.step:
            return self.status
        return f"{self.status} at {self.step.replace('_', ' ')}"

    def matches(self, chosen: str, text: str = "") -> bool:
        """True when it belongs under a filter, and its id holds a text."""
        group = COMPLETED if self.state == COMPLETED else OTHERWISE
        fits = ("all", self.status, *([group] if self.state != "running" else ()))
        return chosen in fits and text.strip().lower() in self.id.lower()


async def list_rows(client: Client, limit: int = LISTED_AT_MOST, query: str = ALL) -> list[Row]:
    """The newest runs, newest first; of a workflow that was run again, only the last run.

    Args:
        client: any client of the namespace.
        limit: how many at most.
        query: which, in the words of the visibility store: :data:`ALL` or :data:`OPEN`.

    Raises:
        RPCError: the server does not answer.
    """
    found: dict[str, Row] = {}
    infos = [info async for info in _executions(client, limit, query)]
    await _learn_outcomes(client, infos)
    for info in infos:
        row = _row(info)
        if row.id not in found or found[row.id].started < row.started:
            found[row.id] = row
    return sorted(found.values(), key=lambda row: row.started, reverse=True)


async def terminate_open(client: Client, reason: str) -> int:
    """Terminate every open run.

    Returns:
        How many there were.
    """
    rows = await list_rows(client, 1_000_000, OPEN)
    for row in rows:
        await client.get_workflow_handle(row.id).terminate(reason)
    return len(rows)


async def _executions(
    client: Client, limit: int, query: str
) -> AsyncIterator[WorkflowExecutionInfo]:
    """What the server lists. (The SDK's own list fails at a status that it does not know.)"""
    request = ListWorkflowExecutionsRequest(
        namespace=client.namespace, page_size=min(limit, PAGE), query=query
    )
    while limit > 0:
        answer = await client.workflow_service.list_workflow_executions(
            request, retry=True, timeout=ANSWER_LIMIT
        )
        for info in answer.executions[:limit]:
            yield info
        limit -= len(answer.executions)
        request.next_page_token = answer.next_page_token
        if not request.next_page_token:
            return


# By run ids: a result does not change.
_learned: dict[str, str] = {}


async def _learn_outcomes(client: Client, infos: Sequence[WorkflowExecutionInfo]) -> None:
    """Ask runs of a version that did not list outcomes for their results, each once."""
    for info in infos:
        it, listed = info.execution, "Outcome" in info.search_attributes.indexed_fields
        if state_of(info) == COMPLETED and not listed and it.run_id not in _learned:
            _learned[it.run_id] = ""
            handle = client.get_workflow_handle(
                it.workflow_id, run_id=it.run_id, result_type=Status
            )
            with suppress(Exception):  # encrypted with another key, say
                _learned[it.run_id] = (await handle.result(rpc_timeout=ANSWER_LIMIT)).outcome


def _row(info: WorkflowExecutionInfo) -> Row:
    attributes = decode_typed_search_attributes(info.search_attributes)
    state, marks = state_of(info), info.search_attributes.indexed_fields
    held = STUCK if PROBLEMS in marks else PAUSED if state == PAUSED or PAUSES in marks else ""
    return Row(
        info.execution.workflow_id,
        "running" if state == PAUSED else state,
        attributes.get(PIPELINE_STEP) or "",
        info.start_time.ToDatetime(UTC),
        attributes.get(ACCURACY),
        held,
        attributes.get(OUTCOME) or _learned.get(info.execution.run_id, ""),
    )


def state_of(info: WorkflowExecutionInfo) -> str:
    """The server's own word: running, paused, or how the run ended."""
    name = WorkflowExecutionStatus.Name(info.status)
    return name.removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()


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

"""An INSERT that may be repeated, on the lab's PostgreSQL. A worker dies with the answer."""

from datetime import timedelta
from types import ModuleType
from typing import Any

from exercise_shared.postgres import tables
from temporalio import workflow
from temporalio.common import RetryPolicy

from labkit.bench import Exercise, Fault, Ledger, Try, require, try_out

TABLE = "CREATE TABLE results (key text PRIMARY KEY, accuracy real)"
ACCURACY = 0.5

exercise = Exercise(
    task="Make the INSERT of log_result idempotent: one row for each run, however often it is run.",
    hints=[
        "The second attempt must find out that the first one has done it. So both need the same "
        "key, and another run needs another.",
        "activity.info() knows workflow_id, workflow_run_id, activity_id and attempt. Which of "
        "them stay the same in a retry, and change with the run?",
        "workflow_run_id, and INSERT … ON CONFLICT (key) DO NOTHING.",
    ],
    right=(
        "An activity that is called twice in a run needs its activity_id in the key as well. "
        "Temporal promises at least once; the key makes it look like once."
    ),
)


@workflow.defn
class Logs:
    @workflow.run
    async def run(self, runs: int) -> None:
        await workflow.execute_activity(
            "log_result",
            ACCURACY,
            start_to_close_timeout=timedelta(seconds=10),
            heartbeat_timeout=timedelta(seconds=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )
        if runs > 1:
            workflow.continue_as_new(runs - 1)  # the same id, another run


def logged(mine: ModuleType, runs: int = 1, lost: bool = False) -> list[tuple]:
    """The rows of a try."""
    options: dict[str, Any] = {}
    with tables(TABLE) as cursor:

        def rows(ledger: Ledger | None = None) -> list[tuple]:
            cursor.execute("SELECT key, accuracy FROM results")
            return cursor.fetchall()

        if lost:
            fault = Fault(after=True, hang=True)
            options = {"fault": {"log_result": fault}, "kill_at": rows, "seconds": 15}
        tried: Try = try_out(
            Logs, runs, activities=[mine.log_result], until=Ledger.failures, **options
        )
        tried.ended()
        return rows()


def require_rows(rows: list[tuple], count: int) -> None:
    wanted = "1 row" if count == 1 else f"{count} rows"
    lost = ": was it committed?" if not rows else ""
    require(len(rows) == count, f"expected {wanted}, got {len(rows)}{lost}")
    require(all(accuracy == ACCURACY for _, accuracy in rows), f"expected {ACCURACY}, got {rows}")


@exercise.shared
def undisturbed(mine: ModuleType) -> None:
    require_rows(logged(mine), 1)


@exercise.case("nothing happens: one row")
def one(mine: ModuleType) -> None:
    undisturbed(mine)


@exercise.case("its worker is killed between commit and answer: one row")
def one_again(mine: ModuleType) -> None:
    undisturbed(mine)
    require_rows(logged(mine, lost=True), 1)


@exercise.case("two runs of one workflow id: two rows")
def two(mine: ModuleType) -> None:
    undisturbed(mine)
    require_rows(logged(mine, runs=2), 2)

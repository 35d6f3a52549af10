"""``try_out``: run a workflow for real, break it, and give back what happened.

On the lab's own Temporal server, on a task queue of its own. Whatever it starts has ended when it
returns: the run is terminated, the worker processes are killed, the ledger is read and removed.
"""

import queue
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer, Worker

from labkit.ask.client import runtime
from labkit.bench import ledger as books
from labkit.bench.cells import latest, refresh
from labkit.bench.ledger import Ledger
from labkit.bench.loop import with_client
from labkit.bench.outcome import Try
from labkit.bench.process import WorkerProcess
from labkit.bench.running import Director, Meanwhile, Moment, Plan, Signal
from labkit.bench.tryworker import Fault, address_of, sandbox
from labkit.bench.words import quoted


def try_out(
    workflow: type,
    *args: Any,
    activities: Sequence[Callable[..., Any]] = (),
    others: Sequence[type] = (),
    process: bool = False,
    kill_at: Moment | Sequence[Moment] = (),
    how: Signal = "SIGKILL",
    worker: Callable[..., Worker] | None = None,
    fault: dict[str, Fault] | None = None,
    skip: timedelta | None = None,
    until: Callable[[Ledger], Any] | None = None,
    meanwhile: Meanwhile | None = None,
    hash_seed: int | None = None,
    data_converter: DataConverter | None = None,
    seconds: float = 5.0,
) -> Try:
    """Run a workflow to its end, at most so many seconds, and break what is to be broken.

    Args:
        workflow: the class; its run method is called ``run``.
        others: more workflow classes that the worker shall know.
        process: the worker is a process of its own, and each activity comes from its module.
        kill_at: when to signal the worker process and start another, once for each moment: a
            number stops the worker after so many effects, in front of the next one; or a function
            of the ledger. A new worker is killed only once it polls. Means ``process=True``.
        how: what to send.
        worker: makes the worker of ``(client, **options)``; it heeds SIGTERM then.
        fault: activity name to :class:`Fault`, before or after the activity's own code.
        skip: move the run's own clock ahead, as soon as it waits.
        until: ends the try once it says True of the ledger.
        meanwhile: ``async (client, handle)``, beside the workflow: signals, queries, updates. The
            try waits for it as well; an error in it is raised here.
        hash_seed: PYTHONHASHSEED of the worker process.
        data_converter: of the client and of a worker in a thread.

    Raises:
        LabError: the lab's Temporal server does not answer.
    """
    refresh()
    moments = [kill_at] if isinstance(kill_at, int) or callable(kill_at) else list(kill_at)
    plan = Plan(
        latest(workflow),
        args,
        [latest(one) for one in activities],
        [latest(one) for one in others],
        process or bool(moments),
        moments,
        how,
        worker,
        fault or {},
        skip,
        until,
        meanwhile,
        hash_seed,
        data_converter,
        seconds,
    )
    done = Try(f"try-{uuid4().hex[:12]}")
    begun = time.monotonic()
    with books.open_book(done.id) as book:
        try:
            Director(plan, done, book).run()
        finally:
            done.ledger = books.read(book)
            done.seconds = time.monotonic() - begun
    return done


def replay(
    workflow: type, history: WorkflowHistory, hash_seed: int | None = None, seconds: float = 10
) -> str:
    """Replay a history with a workflow's code as it is now.

    Args:
        hash_seed: replay in a process with this PYTHONHASHSEED, which decides the order of sets.

    Returns:
        Nothing when it replays, else what differs.
    """
    refresh()
    workflow = latest(workflow)
    if hash_seed is not None:
        return _replay_in_process(workflow, history, hash_seed, seconds)
    replayer = Replayer(
        workflows=[workflow], workflow_runner=sandbox([workflow]), runtime=runtime()
    )
    outcome = with_client(
        lambda client: replayer.replay_workflow(history, raise_on_replay_failure=False), seconds
    )
    return quoted(outcome.replay_failure) if outcome.replay_failure else ""


def _replay_in_process(
    workflow: type, history: WorkflowHistory, hash_seed: int, seconds: float
) -> str:
    todo = {
        "queue": history.workflow_id,
        "workflows": [address_of(workflow)],
        "activities": [],
        "replay": history.to_json(),
    }
    process = WorkerProcess(todo, queue.SimpleQueue(), hash_seed)
    try:
        if not process.ready.wait(seconds):
            raise TimeoutError(f"the replay had not ended after {seconds:g} s")
        return process.failed or process.answer or ""
    finally:
        process.end()

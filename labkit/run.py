"""One pipeline, as a notebook sees it: follow it, ask it, decide, prove."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from temporalio.client import Client, WorkflowHistory

from labkit.ask import history, look, operate, reasons
from labkit.ask.client import ui_url
from labkit.ask.loop import Loop
from labkit.ask.xray import XRay, xray
from labkit.core.journal import Trees, attempts_of, trees_of
from labkit.core.process import until
from labkit.core.settings import Interrupted, LabError, paths
from labkit.pipeline.messages import STEPS, Decision, Status
from labkit.views.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labkit.views.approval import ApprovalPanel
    from labkit.views.timeline import Bar

T = TypeVar("T")
DROP_SECONDS = 30


class Run:
    """A run of ``MLOpsWorkflow``, named by its workflow id.

    Args:
        id: the workflow id.
        loop: where it is asked.
    """

    def __init__(self, id: str, loop: Loop) -> None:
        self.id, self._loop, self._model_id = id, loop, ""

    def __repr__(self) -> str:
        return f"Run {self.id}\n{self.url}"

    @property
    def url(self) -> str:
        """This run in the Temporal Web UI."""
        return ui_url(self.id)

    def status(self) -> Status:
        """Ask the workflow itself: the query ``get_status``.

        Raises:
            LabError: for half a minute nobody has answered, who could run the workflow's code.
        """
        return self._ask(look.status)

    def wait_for_start(self, seconds: float | None = None) -> None:
        """Wait until a watcher has started the workflow.

        Args:
            seconds: the limit; half a minute when nothing is said.

        Raises:
            LabError: none has within the limit.
        """
        limit = DROP_SECONDS if seconds is None else seconds
        with self._goes_on():
            if not until(lambda: self._ask(look.exists), limit, 0.01):
                raise LabError(
                    f"The file lies there, but no workflow {self.id} started within {limit:g} s. "
                    f"Is a watcher on duty? See lab.logs()."
                )

    def _ask(self, question: Callable[[Client, str], Awaitable[T]]) -> T:
        return self._loop.call(lambda client: question(client, self.id))

    def _wait(self, ready: Callable[[], object], seconds: float, else_: str) -> None:
        """Wait until something holds; ``else_`` says what does not after so many seconds."""
        with self._goes_on():
            if not until(ready, seconds, look.POLL_SECONDS):
                raise LabError(f"{self.id} {else_} after {seconds:g} s. {self._why()}")

    @contextmanager
    def _goes_on(self) -> Iterator[None]:
        """An interrupted cell says that the run goes on all the same."""
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(
                f"You interrupted the cell. {self.id} goes on all the same: follow it again."
            ) from None

    def follow(self, until: str | None = None, seconds: float = 120, table: bool = False) -> None:
        """Watch the run until it reaches a step, or until it ends. It leaves a line.

        A worker or a server may crash and start again meanwhile.

        Args:
            until: one of the steps, such as ``awaiting_prod_approval``; None waits for the end.
            seconds: the limit.
            table: leave the table of steps in place of the line.

        Raises:
            LabError: the limit was reached, nobody has answered for half a minute, or the run ended
                before that step; says why.
            ValueError: there is no such step.
        """
        if until is not None and until not in STEPS:
            raise ValueError(f"{until!r} is not a step. The steps are {', '.join(STEPS)}.")
        deadline = time.monotonic() + seconds
        with Progress(until, table) as progress:
            arrived = partial(self._arrived, progress, until, deadline)
            self._wait(arrived, seconds, "is not there")

    def _arrived(self, progress: Progress, until: str | None, deadline: float) -> bool:
        left = max(0.0, deadline - time.monotonic())
        limit = min(left, look.SILENCE_SECONDS)
        view = self._loop.call(lambda client: look.look(client, self.id, limit))
        progress.show(view)
        if not view.arrived(until) and view.state != "running":
            raise LabError(f"{self.id} ended before {until}: {view.headline()}")
        return view.arrived(until)

    async def look(self) -> look.View:
        """What the run is doing, or within two seconds why nobody can say. For the lab's loop.

        Raises:
            LabError: the server or every worker is silent; with the mend.
        """
        return await self._loop.ask(lambda client: look.look_at_once(client, self.id))

    async def decide(self, decision: Decision) -> None:
        """Approve or reject the model for prod. For the lab's loop; raises as :meth:`approve`."""
        await self._loop.ask(lambda client: operate.decide(client, self.id, decision))

    async def answers(self, **features: float | str) -> dict[str, float]:
        """What this run's model says of one row, wherever it is deployed. For the loop."""
        from labkit.pipeline.work.deployment import predict

        status, shells = (await self.look()).status, [features]
        return {
            env: (await asyncio.to_thread(predict, env, shells, status.model_id))[0]
            for env in status.deployments
        }

    def task(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Start a task on the loop where this run is asked, and do not wait for it."""
        return self._loop.task(make)

    def approval(self) -> "ApprovalPanel":
        """Show a panel that decides this run's request for approval."""
        from labkit.views.approval import ApprovalPanel

        panel = ApprovalPanel(self)
        panel.show()
        return panel

    def approve(self, by: str = "", reason: str = "") -> None:
        """Approve the model for prod: the update ``decide_prod_deployment``.

        Raises:
            LabError: nobody awaits a decision, or one was made; with the workflow's own words.
        """
        self._decide(Decision(True, by, reason))

    def reject(self, by: str = "", reason: str = "") -> None:
        """Reject the model for prod. Raises as :meth:`approve` does."""
        self._decide(Decision(False, by, reason))

    def _decide(self, decision: Decision) -> None:
        self._loop.call(lambda client: operate.decide(client, self.id, decision))

    def history(self) -> WorkflowHistory:
        """The event history, from the Temporal server."""
        return self._loop.call(lambda client: client.get_workflow_handle(self.id).fetch_history())

    def activities(self) -> None:
        """Print the activities of the event history as a table."""
        print(history.table(self.history()))

    def prove(
        self,
        activity_id: str,
        attempts: int = 1,
        gaps: Sequence[float] = (),
        outcome: str = "completed",
    ) -> None:
        """Prove how often an activity was tried, how it ended, and the gaps between attempts.

        See :func:`labkit.ask.history.prove` for the arguments.

        Raises:
            AssertionError: the run says otherwise.
        """
        ledger = attempts_of(self.id)
        sentence = history.prove(self.history(), ledger, activity_id, attempts, gaps, outcome)
        print("Proved:", sentence)

    def timeline(self) -> "Figure":
        """The run as a picture: a bar an attempt, the gaps, and the waits for a human."""
        from labkit.views import timeline as picture

        return picture.draw(self._bars(), self.id)

    async def picture(self) -> str:
        """The timeline as an HTML image, with its text as alternative. For the lab's loop."""
        from labkit.views import timeline as picture

        return await asyncio.to_thread(lambda: picture.as_image(self._bars()))

    def attempts(self) -> None:
        """The timeline as text: each attempt, how it ended, and the gap before it."""
        from labkit.views import timeline as picture

        print(picture.table(self._bars()))

    def _bars(self) -> list["Bar"]:
        from labkit.views import timeline as picture

        return picture.bars(self.history(), attempts_of(self.id), datetime.now(UTC))

    def backoff(self, activity_id: str) -> None:
        """Print the gaps that the retry policy promised beside those that happened."""
        print(history.backoff(self.history(), attempts_of(self.id), activity_id))

    def wait_for_failures(self, number: int, seconds: float = 60) -> None:
        """Wait until the activity that the run is at has failed so often.

        Raises:
            LabError: it did not within the limit; says what the run is doing.
        """
        self._wait(partial(self._failed, number), seconds, f"has not failed {number} times")

    def _failed(self, number: int) -> bool:
        seen = self._ask(look.describe)
        if not seen.open:
            raise LabError(f"{self.id} has not failed {number} times. {self._why()}")
        if seen.pending is None or operate.failures(seen.pending) < number:
            return False
        print(f"{seen.pending.activity_id} has failed {history.times(number)}.")
        return True

    def wait_for_trees(self, number: int, seconds: float = 60) -> None:
        """Wait until so many trees are trained and saved.

        Raises:
            LabError: they are not within the limit; says what the run is doing.
        """
        trained = lambda: any(step.last >= number for step in self.training())  # noqa: E731
        self._wait(trained, seconds, f"has not {number} trees")
        print(f"{number} trees are trained and saved.")

    def why(self) -> None:
        """Print why it does not go on, or how it ended, and what to do about it."""
        print(self._ask(reasons.why))

    def _why(self) -> str:
        return self._ask(reasons.why).sentence

    def next_gaps(self, number: int) -> list[float]:
        """Move the run's clock from attempt to attempt, and note the gap before each.

        Args:
            number: how many gaps to pass.

        Returns:
            The gaps in seconds, as the server scheduled them. Real time hardly passes.

        Raises:
            LabError: the run is at no activity that fails.
        """
        return [self._ask(operate.skip_gap) for _ in range(number)]

    def cancel(self) -> None:
        """Ask it to end: it cleans up first. Raises a LabError when it has ended already."""
        self._ask(operate.cancel)

    def terminate(self) -> None:
        """End it at once, without cleaning up. Raises as :meth:`cancel` does."""
        self._ask(operate.terminate)

    def retry_now(self, activity_id: str = "") -> None:
        """Cut the wait for the next attempt short; raises a LabError when it waits for none."""
        self._loop.call(lambda client: operate.retry_now(client, self.id, activity_id))

    def again(self) -> None:
        """Run a failed workflow again, from just before the activity that failed.

        Raises:
            LabError: no activity of it has failed.
        """
        self._ask(operate.run_again)

    def rescue(self) -> None:
        """Send a stuck run back to the last workflow task whose history this code can replay.

        Says what is done again: activities must be idempotent, and a decision may be lost.

        Raises:
            LabError: it has ended, or all of its history can be replayed.
        """
        print(self._ask(operate.rescue))

    def xray(self, *words: str) -> XRay:
        """What the server has stored of this run, beside what it means.

        Args:
            words: show only events, or places in them, whose name holds one of these.
        """
        found = self._loop.call(lambda client: xray(client, self.id))
        return found.only(*words) if words else found

    def training(self) -> list[Trees]:
        """The trees that were really trained, as the training itself wrote down.

        Returns:
            A step for each ten trees, in order, with the process that trained them.
        """
        self._model_id = self._model_id or self.status().model_id
        return trees_of(paths().models / self._model_id)

    def experiments(self) -> list[dict[str, Any]]:
        """The rows of this run in the table ``experiments``."""
        from labkit.pipeline.work import tracking

        return tracking.experiments(self.id)

    def decisions(self) -> list[dict[str, Any]]:
        """The rows of this run in the table ``approvals``: how its request for approval ended."""
        from labkit.pipeline.work import tracking

        return tracking.approvals(self.id)

    def predict(self, environment: str = "prod", **features: float | str) -> float:
        """Ask this run's model on a model server for a prediction.

        Args:
            environment: ``dev`` or ``prod``.
            features: by name, in the units of ``config/dataset.yml``.

        Raises:
            ApplicationError: the server refuses, with its own words.
        """
        from labkit.pipeline.work.deployment import predict

        return predict(environment, [features], self.status().model_id)[0]

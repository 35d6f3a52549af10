"""One pipeline, as a notebook sees it: follow it, ask it, decide, prove."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from labkit.ask import history, look, operate
from labkit.ask.client import connect_like
from labkit.ask.xray import XRay, xray
from labkit.core.journal import Trees, attempts_of, trees_of
from labkit.core.record import recorded_address
from labkit.core.settings import LabError, paths, settings
from labkit.pipeline.messages import STEPS, Decision, Status
from labkit.pipeline.work import tracking
from labkit.pipeline.work.deployment import predict
from labkit.pipeline.workflow import MLOpsWorkflow, reason
from labkit.views.progress import Progress, show_widget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labkit.views.approval import ApprovalPanel
    from labkit.views.timeline import Bar


T = TypeVar("T")


class Call(Protocol):
    """Runs ``await make(client)`` somewhere, and waits for the answer."""

    def __call__(self, make: Callable[[Client], Awaitable[T]]) -> T: ...


DROP_SECONDS = 30


class Run:
    """A run of ``MLOpsWorkflow``, named by its workflow id.

    Args:
        id: the workflow id.
        call: runs ``await something(client)`` on the lab's event loop, and waits for it.
    """

    def __init__(self, id: str, call: Call) -> None:
        self.id = id
        self._call = call
        self._model_id = ""

    def __repr__(self) -> str:
        return f"Run {self.id}\n{self.url}"

    @property
    def url(self) -> str:
        """This run in the Temporal Web UI."""
        base = settings().labkit_ui_url or recorded_address("ui") or "http://127.0.0.1:8233"
        namespace = settings().temporal_namespace
        return f"{base.rstrip('/')}/namespaces/{namespace}/workflows/{quote(self.id, safe='')}"

    def status(self) -> Status:
        """Ask the workflow itself: the query ``get_status``.

        Raises:
            LabError: for half a minute nobody has answered, who could run the workflow's code.
        """
        return self._call(
            lambda client: look.patiently(
                lambda left: look.ask_status(client, self.id, left), look.SILENCE_SECONDS
            )
        )

    def wait_for_start(self, seconds: float | None = None) -> None:
        """Wait until a watcher has started the workflow.

        Args:
            seconds: the limit; half a minute when nothing is said.

        Raises:
            LabError: none has within the limit.
        """

        async def exists(client: Client) -> bool:
            try:
                await client.get_workflow_handle(self.id).describe()
            except RPCError as err:
                if err.status == RPCStatusCode.NOT_FOUND:
                    return False
                raise
            return True

        limit = DROP_SECONDS if seconds is None else seconds
        deadline = time.monotonic() + limit
        while not self._call(exists):
            if time.monotonic() > deadline:
                raise LabError(
                    f"The file lies there, but no workflow {self.id} started within "
                    f"{limit:g} s. Is a watcher on duty? See lab.logs()."
                )
            time.sleep(0.01)

    def follow(self, until: str | None = None, seconds: float = 120) -> None:
        """Watch the run until it reaches a step, or until it ends.

        A worker or a server may crash and start again meanwhile.

        Args:
            until: one of the steps, such as ``awaiting_prod_approval``; None waits for the end.
            seconds: the limit.

        Raises:
            LabError: the limit was reached, nobody has answered for half a minute, or the run ended
                before that step; says why.
            ValueError: there is no such step.
        """
        if until is not None and until not in STEPS:
            raise ValueError(f"{until!r} is not a step. The steps are {', '.join(STEPS)}.")
        progress, view = Progress(), None
        deadline = time.monotonic() + seconds
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                view = self._call(
                    partial(look.look, id=self.id, seconds=min(left, look.SILENCE_SECONDS))
                )
                progress.show(view)
                if look.arrived(view, until):
                    return
                if view.state != "running":
                    raise LabError(f"{self.id} ended before {until}: {view.headline()}")
                if time.monotonic() > deadline:
                    why = self._call(lambda client: look.why_waiting(client, self.id))
                    raise LabError(f"{self.id} is not there after {seconds:g} s. {why}")
                time.sleep(look.POLL_SECONDS)
        finally:
            progress.finish(view)

    def view(self) -> look.View:
        """What the run is doing at this moment, or within two seconds why nobody can say.

        Raises:
            LabError: the server or every worker is silent; with the mend.
        """
        return self._call(lambda client: look.look_at_once(client, self.id))

    def approval(self) -> "ApprovalPanel":
        """Show a panel that decides this run's request for approval."""
        from labkit.views.approval import ApprovalPanel

        panel = ApprovalPanel(self)
        show_widget(panel.widget)
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

    def history(self) -> WorkflowHistory:
        """The event history, from the Temporal server."""
        return self._call(lambda client: client.get_workflow_handle(self.id).fetch_history())

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

    def picture(self) -> str:
        """The timeline as an HTML image, with its text as alternative."""
        from labkit.views import timeline as picture

        return picture.as_image(self._bars())

    def attempts(self) -> None:
        """The timeline as text: each attempt, how it ended, and the gap before it."""
        from labkit.views import timeline as picture

        print(picture.table(self._bars()))

    def backoff(self, activity_id: str) -> None:
        """Print the gaps that the retry policy promised beside those that happened."""
        print(history.backoff(self.history(), attempts_of(self.id), activity_id))

    def wait_for_failures(self, number: int, seconds: float = 60) -> None:
        """Wait until the activity that the run is at has failed so often.

        Raises:
            LabError: it did not within the limit; says what the run is doing.
        """
        deadline = time.monotonic() + seconds
        while True:
            activity = self._call(lambda client: operate.pending(client, self.id))
            if activity and operate.failures(activity) >= number:
                print(f"{activity.activity_id} has failed {history.times(number)}.")
                return
            description = self._call(lambda client: look.describe(client, self.id))
            ended = description.status is not WorkflowExecutionStatus.RUNNING
            if ended or time.monotonic() > deadline:
                why = self._call(lambda client: look.why_waiting(client, self.id))
                raise LabError(f"{self.id} has not failed {number} times in {seconds:g} s. {why}")
            time.sleep(look.POLL_SECONDS)

    def wait_for_trees(self, number: int, seconds: float = 60) -> None:
        """Wait until so many trees are trained and saved.

        Raises:
            LabError: they are not within the limit; says what the run is doing.
        """
        deadline = time.monotonic() + seconds
        while not any(step.last >= number for step in self.training()):
            if time.monotonic() > deadline:
                why = self._call(lambda client: look.why_waiting(client, self.id))
                raise LabError(f"{self.id} has not {number} trees after {seconds:g} s. {why}")
            time.sleep(look.POLL_SECONDS)
        print(f"{number} trees are trained and saved.")

    def next_gaps(self, number: int) -> list[float]:
        """Move the run's clock from attempt to attempt, and note the gap before each.

        Args:
            number: how many gaps to pass.

        Returns:
            The gaps in seconds, as the server scheduled them. Real time hardly passes.

        Raises:
            LabError: the run is at no activity that fails.
        """
        return [self._call(lambda client: operate.skip_gap(client, self.id)) for _ in range(number)]

    def retry_now(self, activity_id: str) -> None:
        """Cut the wait for the next attempt short, as ``temporal activity reset`` does.

        Raises:
            LabError: the run is not at that activity.
        """
        self._call(lambda client: operate.retry_now(client, self.id, activity_id))

    def again(self) -> None:
        """Run a failed workflow again, from just before the activity that failed.

        Raises:
            LabError: no activity of it has failed.
        """
        self._call(lambda client: operate.run_again(client, self.id))

    def xray(self, *words: str) -> XRay:
        """What the server has stored of this run, beside what it means.

        Args:
            words: show only events, or places in them, whose name holds one of these.
        """
        found = self._call(lambda client: xray(client, self.id))
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
        return tracking.experiments(self.id)

    def decisions(self) -> list[dict[str, Any]]:
        """The rows of this run in the table ``approvals``: how its request for approval ended."""
        return tracking.approvals(self.id)

    def predict(self, environment: str = "prod", **features: float | str) -> float:
        """Ask this run's model on a model server for the rings of one abalone.

        Args:
            environment: ``dev`` or ``prod``.
            features: the eight features by name, sizes in mm / 200 and weights in g / 200.

        Raises:
            ApplicationError: the server refuses, with its own words.
        """
        return predict(environment, [features], self.status().model_id)[0]

    def _bars(self) -> list["Bar"]:
        from labkit.views import timeline as picture

        return picture.bars(self.history(), attempts_of(self.id), datetime.now(UTC))

    def _decide(self, decision: Decision) -> None:
        async def update(client: Client) -> Status:
            await look.settled(client, self.id)
            try:
                client = await connect_like(client, self.id)
                handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(self.id)
                return await handle.execute_update(
                    MLOpsWorkflow.decide_prod_deployment, decision, rpc_timeout=look.ANSWER_LIMIT
                )
            except WorkflowUpdateFailedError as err:
                raise LabError(f"{self.id} refused the decision: {reason(err.cause)}") from None
            except WorkflowUpdateRPCTimeoutOrCancelledError:
                raise await look.unanswered(client, self.id, "the decision") from None
            except RPCError as err:
                raise LabError(f"{self.id} cannot take a decision: {err.message}") from None

        self._call(update)

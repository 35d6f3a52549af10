"""A bench for the workflow: activities that only count, a worker, and ways to look at a run."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from temporalio import activity
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from labkit.pipeline.listing import FIRST_STEP
from labkit.pipeline.messages import (
    Approval,
    Dataset,
    Decision,
    DeployInput,
    Deployment,
    Experiment,
    Hyperparameters,
    Model,
    PipelineInput,
    PreprocessInput,
    QualityMetrics,
    QualityReport,
    Status,
    TrainInput,
)
from labkit.pipeline.workflow import MLOpsWorkflow
from labkit.run import Run

T = TypeVar("T")
Handle = WorkflowHandle[Any, Status]
Behaviour = Callable[[Any, int], Any]

ORDER = ["preprocess_data", "train_model", "log_experiment", "assess_model_quality"]
SECONDS = 20.0


def fails(times: int = 10**6, kind: str = "Broken", final: bool = False) -> Behaviour:
    """A behaviour that fails the first attempts, then lets the fake answer."""

    def behave(request: Any, attempt: int) -> None:
        if attempt <= times:
            raise ApplicationError(f"{kind} on purpose", type=kind, non_retryable=final)

    return behave


@dataclass
class Fakes:
    """``calls`` holds (activity id, attempt); ``on`` what an activity does before it answers."""

    accuracy: float = 0.9
    current: str = ""
    on: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)
    requests: dict[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.calls]

    async def _called(self, request: Any) -> None:
        info = activity.info()
        self.calls.append((info.activity_id, info.attempt))
        self.requests[info.activity_id] = request
        if behave := self.on.get(info.activity_id):
            done = behave(request, info.attempt)
            if inspect.isawaitable(done):
                await done

    def activities(self) -> list[Callable[..., Any]]:
        @activity.defn(name="preprocess_data")
        async def preprocess(request: PreprocessInput) -> Dataset:
            await self._called(request)
            return Dataset("data/processed/x.csv", 4177, request.misalign_labels)

        @activity.defn(name="train_model")
        async def train(request: TrainInput) -> Model:
            await self._called(request)
            metrics = QualityMetrics(self.accuracy, 1.5, 0.57)
            return Model(
                model_id=request.model_id,
                artifact_path="data/models/x.joblib",
                sha256="0" * 64,
                hyperparameters=Hyperparameters(),
                metrics=metrics,
                samples=4177,
                started_at="2026-01-01T00:00:00+00:00",
                completed_at="2026-01-01T00:00:01+00:00",
                seconds=1.0,
                probe=[{"sex": "M", "length": 0.5}],
                expected=[9.5],
            )

        @activity.defn(name="log_experiment")
        async def log(request: Experiment) -> int:
            await self._called(request)
            return 1

        @activity.defn(name="record_approval")
        async def record(approval: Approval) -> int:
            await self._called(approval)
            return 1

        @activity.defn(name="assess_model_quality")
        async def assess(metrics: QualityMetrics) -> QualityReport:
            await self._called(metrics)
            low = metrics.accuracy < 0.80
            reasons = [f"accuracy {metrics.accuracy:.2f} is below 0.80"] if low else []
            return QualityReport(not low, metrics.accuracy > 0.85, reasons)

        @activity.defn(name="deploy_to_environment")
        async def deploy(request: DeployInput) -> Deployment:
            await self._called(request)
            url = f"http://{request.environment}/models/{request.model.model_id}/predict"
            current = self.current or request.model.model_id
            return Deployment(request.environment, request.model.model_id, url, current)

        @activity.defn(name="restore_previous_model")
        async def restore(request: DeployInput) -> str | None:
            await self._called(request)
            return None

        return [preprocess, train, log, record, assess, deploy, restore]


class TestLoop:
    """The test's own event loop, as a run uses the lab's."""

    __test__ = False

    def __init__(self, client: Client) -> None:
        self.client, self.loop = client, asyncio.get_running_loop()

    async def ask(self, make: Callable[[Client], Awaitable[T]]) -> T:
        return await make(self.client)

    def call(self, make: Callable[[Client], Awaitable[T]]) -> T:
        return self.task(lambda: self.ask(make)).result(SECONDS)

    def task(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(make(), self.loop)


class Bench:
    """One client, one queue of its own, fake activities, and the runs that a test started."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.fakes = Fakes()
        self.queue = f"queue-{uuid4().hex[:12]}"
        self.started: list[Handle] = []

    @asynccontextmanager
    async def worker(self, client: Client | None = None, **options: Any) -> AsyncIterator[Worker]:
        """A worker like the lab's: the sandbox is on, a crash costs a second at most."""
        arguments: dict[str, Any] = {
            "workflows": [MLOpsWorkflow],
            "activities": self.fakes.activities(),
            "sticky_queue_schedule_to_start_timeout": timedelta(seconds=1),
        }
        worker = Worker(client or self.client, task_queue=self.queue, **arguments | options)
        async with worker:
            yield worker

    async def start(
        self,
        name: str = "good.csv",
        speed: float = 1000,
        client: Client | None = None,
        type: str = "MLOpsWorkflow",
        listed: bool = True,
        **request: Any,
    ) -> Handle:
        handle: Handle = await (client or self.client).start_workflow(
            type,
            PipelineInput(f"data/raw/{name}", speed=speed, **request),
            id=f"mlops-{uuid4()}",
            task_queue=self.queue,
            result_type=Status,
            search_attributes=FIRST_STEP if listed else None,
            static_summary=f"Pipeline for {name}",
        )
        self.started.append(handle)
        return handle

    async def status(self, handle: Handle) -> Status:
        """Ask, and again where a worker without the run in its cache is ahead of the history."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    return await handle.query(MLOpsWorkflow.get_status)
                except WorkflowQueryFailedError as err:
                    if "ahead of the event history" not in str(err):
                        raise

    async def until(self, handle: Handle, step: str) -> Status:
        """Wait until the run is at a step, as the query says."""
        return await eventually(
            lambda: self.status(handle), lambda status: status.current_step == step
        )

    async def awaiting(self, **options: Any) -> Handle:
        """A run that waits for a human."""
        handle = await self.start(**options)
        await eventually(lambda: self.status(handle), lambda status: status.awaiting_approval)
        return handle

    async def approved(self, **options: Any) -> Handle:
        handle = await self.awaiting(**options)
        await handle.execute_update(MLOpsWorkflow.decide_prod_deployment, Decision(True, "ann"))
        return handle

    def run(self, handle: Handle) -> Run:
        """The run as a notebook has it; call its methods in a thread."""
        return Run(handle.id, TestLoop(self.client))

    async def replay_all(self) -> None:
        """Whatever a test made the workflow do, its history replays."""
        for handle in self.started:
            await replay(await handle.fetch_history(), self.client)


async def replay(history: WorkflowHistory, client: Client) -> None:
    replayer = Replayer(
        workflows=[MLOpsWorkflow], data_converter=client.data_converter, runtime=None
    )
    saved = WorkflowHistory.from_json(history.workflow_id, history.to_json())
    await replayer.replay_workflow(saved)


def made(status: Status) -> Decision:
    """The decision as it was sent: without the time that the workflow added."""
    assert status.decision and status.decision.at
    return replace(status.decision, at="")


async def eventually(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """Ask until the answer is good."""
    async with asyncio.timeout(SECONDS):
        while not good(answer := await ask()):
            await asyncio.sleep(0.01)
    return answer

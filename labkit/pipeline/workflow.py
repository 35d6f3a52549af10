"""The workflow: the order of things, and nothing that touches the world."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePath
from typing import TypeVar

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, ApplicationError

# The sandbox loads this file anew for each run, and takes what is imported here as it is. It sees
# `import package.module`; with `from package import module` it would load that anew, too.
with workflow.unsafe.imports_passed_through():
    import labkit.pipeline.activities as activities
    import labkit.pipeline.policies as policies
    from labkit.pipeline.listing import Listing
    from labkit.pipeline.messages import (
        WORKFLOW_TYPE,
        Approval,
        Dataset,
        Decision,
        DeployInput,
        Experiment,
        Model,
        PipelineInput,
        PreprocessInput,
        QualityReport,
        Status,
        TrainInput,
    )
    from labkit.pipeline.names import deployment_order, misaligns_labels, model_id
    from labkit.pipeline.patience import LastTask, ask_anew
    from labkit.pipeline.words import in_words, reason

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")


@workflow.defn(name=WORKFLOW_TYPE)
class MLOpsWorkflow:
    """One dropped CSV, from its bytes to a model that answers.

    The code below reads like a script, and it survives like a database: each ``await`` on an
    activity is recorded in the event history. When a worker dies, another one replays the
    history, finds every finished step done, and goes on from there.
    """

    # A signal or a query may come before `run` has begun: `init` gives both something to work on.
    @workflow.init
    def __init__(self, request: PipelineInput) -> None:
        self._request = request
        self._status = Status(workflow.info().workflow_id, request.dataset_path)
        self._task = LastTask()
        self._listing = Listing(self._task)

    @workflow.run
    async def run(self, request: PipelineInput) -> Status:
        try:
            await self._pipeline()
        except (ActivityError, asyncio.CancelledError) as err:
            # The status outlives the run: a query on a failed run says why.
            self._status.awaiting_approval = False
            self._status.failure_reason = self._status.failure_reason or reason(err)
            self._status.trouble = ""
            self._listing.fail()
            raise
        self._listing.outcome = self._status.outcome
        self._begin("completed")
        # A run must not end while an update waits for its answer.
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._status

    async def _pipeline(self) -> None:
        dataset = await self._preprocess()
        model = await self._train(dataset)
        await self._track(model)
        report = await self._assess(model)
        if not report.passed:
            self._status.quality_gate_failed = True
            self._status.failure_reason = "quality gate: " + "; ".join(report.reasons)
            return
        await self._deploy("dev", model)
        if report.asks_for_approval and await self._approved():
            await self._deploy("prod", model)

    async def _preprocess(self) -> Dataset:
        self._begin("data_preprocessing")
        # Random numbers are the workflow's own, and time is `workflow.now()`: replay gets the same.
        self._status.model_id = model_id(self._request.dataset_path, workflow.uuid4())
        misalign = misaligns_labels(
            self._request.dataset_path, self._request.other_files, workflow.random()
        )
        dataset = await self._execute(
            activities.preprocess_data,
            PreprocessInput(
                self._status.model_id,
                self._request.dataset_path,
                self._request.snapshot_path,
                self._request.sha256,
                misalign,
            ),
            policies.PREPROCESS,
            "Check the CSV and prepare it for training",
        )
        self._status.labels_misaligned = dataset.labels_misaligned
        self._end("data_preprocessing")
        return dataset

    async def _train(self, dataset: Dataset) -> Model:
        self._begin("model_training")
        model = await self._execute(
            activities.train_model,
            TrainInput(self._status.model_id, dataset, self._request.proprietary_config),
            policies.TRAIN,
            f"Train a random forest on {dataset.rows:,} rows",
        )
        self._status.quality_metrics = model.metrics
        self._listing.measured(model.metrics.accuracy)
        self._end("model_training")
        return model

    async def _track(self, model: Model) -> None:
        self._begin("experiment_tracking")
        await self._execute(
            activities.log_experiment,
            Experiment(self._request.dataset_path, model),
            policies.LOG_EXPERIMENT,
            "One row in PostgreSQL",
        )
        self._end("experiment_tracking")

    async def _assess(self, model: Model) -> QualityReport:
        self._begin("quality_assessment")
        report = await self._execute(
            activities.assess_model_quality,
            model.metrics,
            policies.ASSESS,
            "Compare the figures with config/quality_gate.yml",
        )
        self._end("quality_assessment")
        return report

    async def _approved(self) -> bool:
        """Wait for a human: a minute or a month, at no cost and through any crash."""
        self._begin("awaiting_prod_approval")
        patience = timedelta(days=self._request.approval_days)
        self._status.awaiting_approval = True
        asked = workflow.now()
        self._status.approval_asked = asked.isoformat()
        self._status.approval_deadline = (asked + patience).isoformat()
        # A condition and a timer. The timer is the server's: it passes while no worker runs.
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._status.decision is not None,
                timeout=patience,
                timeout_summary="The approval request expires",
            )
        if self._status.decision is None:
            self._task.refuse_to_run_ahead()
            self._status.awaiting_approval = False
            self._status.deployment_status = "approval_expired"
            self._status.failure_reason = f"nobody decided within {in_words(patience)}"
        # True in new runs, which leave a marker. Runs that decided before this line existed have no
        # such activity in their history: when they are replayed, it is False.
        if workflow.patched("record-approvals"):
            await self._record()
        self._end("awaiting_prod_approval")
        return self._status.prod_approved

    async def _record(self) -> None:
        """Keep who decided what, before anything comes of it, through any outage."""
        await self._execute(
            activities.record_approval,
            Approval.of(self._status, workflow.now().isoformat()),
            policies.RECORD_APPROVAL,
            "Who decided, when and why: one row in PostgreSQL",
        )

    async def _deploy(self, environment: str, model: Model) -> None:
        """Deploy, or put back what served before: the compensation of a saga."""
        self._begin(f"{environment}_deployment")
        # The order does not change from attempt to attempt: a late one changes nothing.
        request = DeployInput(environment, model, deployment_order(workflow.now()))
        deploying = asyncio.create_task(
            self._execute(
                activities.deploy_to_environment,
                request,
                policies.DEPLOY[environment],
                f"Deploy to {environment} and ask it for a prediction",
                activity_id=f"deploy_to_{environment}",
            )
        )
        # Cancelling the run cancels what it awaits. The shield keeps that from the activity.
        try:
            deployment = await asyncio.shield(deploying)
        except (ActivityError, asyncio.CancelledError) as err:
            # A cancelled run lets the deployment end first: it must not overtake what undoes it.
            await workflow.wait([deploying])
            self._status.failure_reason = self._status.failure_reason or reason(err)
            await self._restore(request)
            raise
        self._status.deployments[environment] = deployment.url
        if deployment.current not in ("", model.model_id):
            self._status.superseded[environment] = deployment.current
        self._status.deployment_status = f"deployed_to_{environment}"
        self._end(f"{environment}_deployment")

    async def _restore(self, request: DeployInput) -> None:
        """Put the previous model back. The first error stays the reason."""
        try:
            await self._execute(
                activities.restore_previous_model,
                request,
                policies.RESTORE,
                f"Put the previous model back on {request.environment}",
                activity_id=f"restore_{request.environment}",
            )
        except ActivityError as err:
            self._status.failure_reason += f"; the previous model is not back: {reason(err)}"

    @workflow.signal
    def approve_prod_deployment(self, by: str = "") -> None:
        """Fire and forget: a decision that nobody awaits is ignored, and the sender never knows.

        One that is sent after the status said ``awaiting_approval`` is never too early.
        """
        self._decide(Decision(True, by))

    @workflow.signal
    def reject_prod_deployment(self, by: str = "", reason: str = "") -> None:
        self._decide(Decision(False, by, reason))

    @workflow.update
    async def decide_prod_deployment(self, decision: Decision) -> Status:
        """A decision with an answer: the validator below refuses what a signal would swallow."""
        self._decide(decision)
        return self._status

    # A validator runs before the update is in the history, and changes nothing. What it refuses
    # leaves no trace there.
    @decide_prod_deployment.validator
    def _check_decision(self, decision: Decision) -> None:
        if made := self._status.decision:
            verb = "approved" if made.approved else "rejected"
            who = f" by {made.by}" if made.by else ""
            raise ApplicationError(f"Already {verb}{who}.", type="AlreadyDecided")
        if self._status.deployment_status == "approval_expired":
            raise ApplicationError("The request has expired.", type="Expired")
        if not self._status.awaiting_approval:
            step = self._status.current_step
            raise ApplicationError(f"No decision is awaited at {step}.", type="NotAwaited")

    @workflow.query
    def get_status(self) -> Status:
        return self._status

    def _decide(self, decision: Decision) -> None:
        self._task.refuse_to_run_ahead()
        if not self._status.awaiting_approval:
            return
        self._status.awaiting_approval = False
        self._status.decision = replace(decision, at=workflow.now().isoformat())
        self._status.prod_approved = decision.approved
        if not decision.approved:
            self._status.deployment_status = "prod_rejected"
            self._status.failure_reason = decision.reason or "rejected without a reason"

    def _begin(self, step: str) -> None:
        self._status.current_step = step
        workflow.set_current_details(f"**{step}** of `{PurePath(self._request.dataset_path).name}`")
        self._listing.begin(step)

    def _end(self, step: str) -> None:
        self._status.completed_steps.append(step)

    async def _execute(
        self,
        activity: Callable[[Argument], Answer],
        argument: Argument,
        policy: policies.Policy,
        why: str,
        activity_id: str | None = None,
    ) -> Answer:
        """Ask for an activity, and ask anew as long as it is the platform that fails."""

        def ask() -> Awaitable[Answer]:
            return workflow.execute_activity(
                activity,
                argument,
                activity_id=activity_id or activity.__name__,
                start_to_close_timeout=timedelta(seconds=policy.start_to_close),
                # A worker that dies is noticed when its heartbeats stop.
                heartbeat_timeout=policy.heartbeat_timeout,
                retry_policy=policy.retry_policy(self._request.speed),
                summary=why,
                priority=Priority(priority_key=policy.priority),
            )

        return await ask_anew(ask, policy, self._request.speed, self._status, self._task)

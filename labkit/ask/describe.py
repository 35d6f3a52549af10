"""What the Temporal server itself says of a run, whether or not a worker answers."""

from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
)
from temporalio.client import Client
from temporalio.converter import decode_typed_search_attributes
from temporalio.service import RPCError, RPCStatusCode

from labkit.ask.runs import PAUSED, WORDS, state_of
from labkit.core.settings import LabError
from labkit.pipeline.listing import PIPELINE_STEP
from labkit.pipeline.words import reason

# The step of the pipeline that an activity, by its id, belongs to.
STEP_OF = {
    "preprocess_data": "data_preprocessing",
    "train_model": "model_training",
    "log_experiment": "experiment_tracking",
    "assess_model_quality": "quality_assessment",
    "deploy_to_dev": "dev_deployment",
    "restore_dev": "dev_deployment",
    "record_approval": "awaiting_prod_approval",
    "deploy_to_prod": "prod_deployment",
    "restore_prod": "prod_deployment",
}
UNPAUSE = "temporal workflow unpause --workflow-id {id}"
UNPAUSE_ACTIVITY = "temporal activity unpause --workflow-id {id} --activity-id {activity}"


class Silence(LabError):
    """Nobody answers for a run. Shortly after a crash, that passes."""


class NothingToAsk(LabError):
    """The workflow's code has nothing to say, whoever asks: it is paused."""


class NotBegun(NothingToAsk):
    """Nor has it anything to say before its first step."""


@dataclass
class Description:
    """What the server itself says of a run, whether or not a worker answers.

    ``state`` is running, paused, or how the run ended, in the server's own word.
    """

    id: str
    raw_description: DescribeWorkflowExecutionResponse

    @property
    def state(self) -> str:
        return state_of(self.raw_description.workflow_execution_info)

    @property
    def open(self) -> bool:
        return self.state in ("running", PAUSED)

    @property
    def type(self) -> str:
        return self.raw_description.workflow_execution_info.type.name

    @property
    def task_queue(self) -> str:
        return self.raw_description.workflow_execution_info.task_queue

    @property
    def seconds(self) -> float:
        """From its start to its end, or to this moment."""
        info = self.raw_description.workflow_execution_info
        closed = info.close_time.ToDatetime(UTC) if info.HasField("close_time") else None
        return ((closed or datetime.now(UTC)) - info.start_time.ToDatetime(UTC)).total_seconds()

    @property
    def step(self) -> str:
        """The step that is recorded: of the activity that the run is at, else the one listed."""
        if self.pending and (step := STEP_OF.get(self.pending.activity_id)):
            return step
        found = self.raw_description.workflow_execution_info.search_attributes
        return decode_typed_search_attributes(found).get(PIPELINE_STEP) or ""

    @property
    def pending(self) -> PendingActivityInfo | None:
        """The activity that the run is at, or None when it is at none."""
        return next(iter(self.raw_description.pending_activities), None)

    def held(self) -> tuple[str, str]:
        """Why an open run does not go on, in a word and in a sentence; empty when it does."""
        if self.state == PAUSED:
            return PAUSED, f"An operator paused it. Go on: {UNPAUSE.format(id=self.id)}"
        if self.raw_description.workflow_extended_info.cancel_requested and self.open:
            at = f" {self.pending.activity_id} ends first." if self.pending else ""
            return "cancelling", f"It was asked to cancel.{at}"
        if self.pending and self.pending.paused:
            return PAUSED, self._paused_activity(self.pending)
        return "", ""

    def _paused_activity(self, pending: PendingActivityInfo) -> str:
        waits = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED
        when = "" if waits else " This attempt ends first."
        why = pending.pause_info.manual.reason
        mend = UNPAUSE_ACTIVITY.format(id=self.id, activity=pending.activity_id)
        return (
            f"An operator paused {pending.activity_id}{': ' if why else ''}{why}.{when} "
            f"Go on: {mend}"
        )


async def describe(client: Client, id: str) -> Description:
    """What the server knows of a run. (The SDK's own call fails at a status that is new to it.)

    Raises:
        LabError: there is no such run, or no server answers.
    """
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=id)
    )
    try:
        return Description(
            id, await client.workflow_service.describe_workflow_execution(request, retry=True)
        )
    except RPCError as err:
        if err.status == RPCStatusCode.NOT_FOUND:
            raise LabError(
                f"There is no workflow {id}. List them: python -m labkit status"
            ) from None
        raise no_server(err) from None


def no_server(err: RPCError) -> Silence:
    return Silence(
        f"The Temporal server does not answer: {err.message}. Mend: python -m labkit start temporal"
    )


def before_the_first_step(description: Description) -> str:
    """Why a run has no status: its code has not run."""
    if not description.open:
        return f"{description.id} was {WORDS[description.state]} before its first step."
    due = description.raw_description.workflow_execution_info.execution_time.ToDatetime(UTC)
    if due > datetime.now(UTC):
        return f"{description.id} starts at {due:%Y-%m-%d %H:%M:%S} UTC."
    return f"{description.id} has not run its first step."


async def failure_of(client: Client, pending: PendingActivityInfo) -> str:
    """Why the last attempt of an activity failed; empty when none has."""
    if not pending.HasField("last_failure"):
        return ""
    return reason(await client.data_converter.decode_failure(pending.last_failure))

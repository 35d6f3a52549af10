"""Why nobody answers for a run: absent, busy or broken, told apart by facts of the server."""

import time
from contextlib import suppress
from dataclasses import dataclass

from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentVersionRequest,
    ListWorkerDeploymentsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from labkit.ask.describe import Description, Silence, describe
from labkit.core.settings import LabError, settings
from labkit.pipeline.messages import WORKFLOW_TYPE
from labkit.pipeline.words import reason

# A workflow task that has failed so often will fail again: its code must be mended first.
CODE_TRIES = 2
# A worker whose slots are all taken asks for no more work until one is free.
BUSY_SECONDS = 10
# An idle worker asks at least once a minute. (The server lists those that left, too, for a while.)
IDLE_SECONDS = 70
# A worker without the key fails the task with the codec's own error.
UNREADABLE = LabError.__name__
UNREPLAYABLE, TOO_LARGE = "TMPRL1100", "TMPRL1103"


@dataclass
class Queue:
    """A task queue: how long ago a worker asked for work there, and how many tasks wait."""

    name: str
    asked: float | None
    waiting: int

    def has_worker(self) -> bool:
        return self.asked is not None and self.asked < IDLE_SECONDS

    def is_busy(self, since: float) -> bool:
        """True when a worker has asked since, or lately, and there is plenty to do.

        Somebody who asks for work once a question waits is there, and comes to it; somebody who
        is idle would have taken the question at once.
        """
        if self.asked is None:
            return False
        return self.asked < since or (self.waiting > 0 and self.asked < BUSY_SECONDS)


async def describe_queue(client: Client, name: str) -> Queue:
    """What the server knows of the workers of a task queue, and of the work that waits there."""
    asked: list[float] = []
    waiting, now = 0, time.time()
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        request = DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=name),
            task_queue_type=kind,
            report_stats=True,
        )
        answer = await client.workflow_service.describe_task_queue(request, retry=True)
        asked += [now - poller.last_access_time.ToNanoseconds() / 1e9 for poller in answer.pollers]
        waiting += answer.stats.approximate_backlog_count
    return Queue(name, max(0.0, min(asked)) if asked else None, waiting)


async def version_on(client: Client, queue: str) -> tuple[str, str] | None:
    """A version of a worker deployment that polls a queue, and is not the current one there."""
    service, namespace = client.workflow_service, client.namespace
    with suppress(RPCError):  # a server without worker versioning
        found = await service.list_worker_deployments(
            ListWorkerDeploymentsRequest(namespace=namespace)
        )
        for deployment in found.worker_deployments:
            latest = deployment.latest_version_summary.deployment_version
            version = WorkerDeploymentVersion(
                deployment_name=deployment.name, build_id=latest.build_id
            )
            request = DescribeWorkerDeploymentVersionRequest(
                namespace=namespace, deployment_version=version
            )
            info = (
                await service.describe_worker_deployment_version(request)
            ).worker_deployment_version_info
            polls = queue in {it.name for it in info.task_queue_infos}
            if polls and not (info.HasField("current_since_time") or info.ramp_percentage):
                return version.deployment_name, version.build_id
    return None


async def unanswered(
    client: Client, id: str, what: str, seconds: float, answered: bool = False
) -> LabError:
    """Why nobody has answered for a run.

    Args:
        client: where to ask.
        id: the workflow id.
        what: what is not answered, in words.
        seconds: for how long.
        answered: a worker has, with an error.
    """
    description = await describe(client, id)
    begin = f"{id} does not answer {what}."
    if why := await code_failure(client, description, tries=1):
        tried = description.raw_description.pending_workflow_task.attempt
        if tried > CODE_TRIES:
            return LabError(f"{id} is stuck. {_with_mend(why)}")
        return Silence(f"{begin} {_with_mend(why)}")
    if answered:
        return Silence(f"{begin} Its worker cannot read it, or lost it meanwhile.")
    queue = await describe_queue(client, description.task_queue)
    if queue.is_busy(seconds):
        tasks = f", and {queue.waiting} tasks wait for it" if queue.waiting else ""
        return Silence(
            f"{begin} Its worker is busy: it asked for work {queue.asked:.1f} s ago{tasks}. "
            f"Nothing is lost. Ask again in a moment."
        )
    ours = settings().temporal_task_queue
    mend = "lab = Lab.start()" if queue.name == ours else f"start one there; the lab's polls {ours}"
    gone = "" if queue.asked is None else f" (The last one asked for work {queue.asked:.0f} s ago.)"
    return Silence(f"{begin} No worker answers on the task queue {queue.name}. Mend: {mend}{gone}")


async def not_stuck(client: Client, id: str) -> Description:
    """Describe a run, or say why it is stuck: its queries and updates would say less.

    Raises:
        LabError: its workflow task fails again and again; with the mend.
    """
    description = await describe(client, id)
    if why := await code_failure(client, description, CODE_TRIES):
        raise LabError(f"{id} is stuck. {_with_mend(why)}")
    return description


async def code_failure(
    client: Client, description: Description, tries: int
) -> tuple[str, str] | None:
    """Why a run's workflow task has failed more often than that, and the mend.

    None when it has not: a task that died with its worker is tried again, too.
    """
    if description.raw_description.pending_workflow_task.attempt <= tries:
        return None
    history = await client.get_workflow_handle(description.id).fetch_history()
    for event in reversed(history.events):
        if event.HasField("workflow_task_completed_event_attributes"):
            break
        if event.HasField("workflow_task_failed_event_attributes"):
            failure = event.workflow_task_failed_event_attributes.failure
            said = reason(await client.data_converter.decode_failure(failure))
            return _in_words(description, said)
    return None


def _with_mend(why: tuple[str, str]) -> str:
    return " Mend: ".join(filter(None, why))


def _in_words(description: Description, failure: str) -> tuple[str, str]:
    if failure.startswith(f"{UNREADABLE}: "):
        return f"Its worker cannot read it. {failure.removeprefix(f'{UNREADABLE}: ')}", ""
    if TOO_LARGE in failure:
        return (
            f"Its code gives away more than a message may hold: {failure}",
            "Write it to a file or a bucket, and pass where it is.",
        )
    if UNREPLAYABLE in failure:
        rescue = (
            f"python -m labkit rescue {description.id}, which goes back to what can be replayed."
        )
        patch = "Start a worker with the old code, or put the change behind workflow.patched()."
        return (
            f"This code cannot replay its history: {failure}",
            rescue if description.type == WORKFLOW_TYPE else patch,
        )
    ours = "correct the code and start the worker again: lab.restart()"
    theirs = "Correct the code, and start the worker again. The run goes on by itself."
    return (
        f"The workflow's own code fails: {failure}",
        ours if description.type == WORKFLOW_TYPE else theirs,
    )

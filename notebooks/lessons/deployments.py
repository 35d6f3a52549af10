"""Worker deployments: which build did what, and whether the server routes as it was told to."""

import asyncio

from temporalio.api.enums.v1 import (
    EventType,
    RoutingConfigUpdateState,
    WorkerDeploymentVersionStatus,
)
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

POLL_SECONDS = 0.05
_ROUTED = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED


async def ready(client: Client, name: str, *builds: str, seconds: float = 20) -> None:
    """Wait until the server knows these builds, and routes as it was last told to.

    A build is known once its worker has polled. A new routing takes a moment to reach the queues.

    Raises:
        TimeoutError: it does not within the limit.
    """
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    async with asyncio.timeout(seconds):
        while True:
            try:
                answer = await client.workflow_service.describe_worker_deployment(request)
                info = answer.worker_deployment_info
                known = {it.deployment_version.build_id for it in info.version_summaries}
                if known >= set(builds) and info.routing_config_update_state == _ROUTED:
                    return
            except RPCError as err:
                if err.status != RPCStatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(POLL_SECONDS)


async def statuses(client: Client, name: str) -> dict[str, str]:
    """Each build of a deployment: current, ramping, draining, drained or inactive."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    answer = await client.workflow_service.describe_worker_deployment(request)
    return {
        it.deployment_version.build_id: WorkerDeploymentVersionStatus.Name(it.status)
        .removeprefix("WORKER_DEPLOYMENT_VERSION_STATUS_")
        .lower()
        for it in sorted(
            answer.worker_deployment_info.version_summaries,
            key=lambda it: it.deployment_version.build_id,
        )
    }


async def drained(client: Client, name: str, build: str, seconds: float = 60) -> None:
    """Wait until the server says that no open run needs this build any more.

    Raises:
        TimeoutError: it does not within the limit.
    """
    async with asyncio.timeout(seconds):
        while (await statuses(client, name))[build] != "drained":
            await asyncio.sleep(POLL_SECONDS)


def builds(history: WorkflowHistory) -> list[str]:
    """The build that ran each workflow task, one after another, without repetitions in a row."""
    found: list[str] = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            done = event.workflow_task_completed_event_attributes
            if (build := done.deployment_version.build_id) not in found[-1:]:
                found.append(build)
    return found

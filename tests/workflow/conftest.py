"""The workflow alone, on a real Temporal dev server, with fake activities."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from labkit.pipeline.workflow import ACCURACY, PIPELINE_STEP
from labkit.services.temporal import DYNAMIC_CONFIG, cli
from tests.ports import BLOCK
from tests.workflow.fakes import Bench


@pytest.fixture(scope="session")
def temporal_address() -> Iterator[str]:
    """A dev server in memory, with the settings of the lab's own; workflows may be paused, too."""
    arguments = [
        word
        for key, value in {**DYNAMIC_CONFIG, "frontend.WorkflowPauseEnabled": True}.items()
        for word in ("--dynamic-config-value", f"{key}={json.dumps(value)}")
    ]

    async def start() -> WorkflowEnvironment:
        return await WorkflowEnvironment.start_local(
            port=BLOCK.next(),
            dev_server_existing_path=cli(),
            dev_server_log_level="never",
            dev_server_extra_args=arguments,
            search_attributes=[PIPELINE_STEP, ACCURACY],
        )

    environment = asyncio.run(start())
    yield environment.client.service_client.config.target_host
    asyncio.run(environment.shutdown())


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address)


@pytest.fixture
async def idle(client: Client) -> AsyncIterator[Bench]:
    """A bench without a worker. At the end every history is replayed."""
    bench = Bench(client)
    yield bench
    await bench.replay_all()


@pytest.fixture
async def bench(idle: Bench) -> AsyncIterator[Bench]:
    """A bench at work."""
    async with idle.worker():
        yield idle

"""The workflow alone, on a real Temporal dev server, with fake activities."""

from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import Client

from tests.workflow.fakes import Bench
from tests.workflow.server import dev_server


@pytest.fixture(scope="session")
def temporal_address() -> Iterator[str]:
    with dev_server() as address:
        yield address


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

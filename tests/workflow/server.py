"""A dev server in memory, with the settings of the lab's own; workflows may be paused, too."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from labkit.pipeline.listing import ACCURACY, OUTCOME, PIPELINE_STEP
from labkit.services.temporal import DYNAMIC_CONFIG, cli
from tests.ports import BLOCK


@contextmanager
def dev_server(database: Path | None = None) -> Iterator[str]:
    """Its address, as long as the block lasts; with a database on the disk when one is named."""
    arguments = [
        word
        for key, value in {**DYNAMIC_CONFIG, "frontend.WorkflowPauseEnabled": True}.items()
        for word in ("--dynamic-config-value", f"{key}={json.dumps(value)}")
    ]
    if database:
        arguments += [
            "--sqlite-pragma",
            "journal_mode=WAL",
            "--sqlite-pragma",
            "synchronous=NORMAL",
        ]

    async def start() -> WorkflowEnvironment:
        return await WorkflowEnvironment.start_local(
            port=BLOCK.next(),
            dev_server_existing_path=cli(),
            dev_server_database_filename=str(database) if database else None,
            dev_server_log_level="never",
            dev_server_extra_args=arguments,
            search_attributes=[PIPELINE_STEP, ACCURACY, OUTCOME],
        )

    environment = asyncio.run(start())
    try:
        yield environment.client.service_client.config.target_host
    finally:
        asyncio.run(environment.shutdown())

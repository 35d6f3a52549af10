"""Worker versioning on the lab's server, with a process for each build."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest
from lessons.builds import draw, lives, table
from lessons.deployments import builds, drained, ready, statuses
from temporalio.client import Client, WorkflowHandle, WorkflowHistory

from labkit.ask.reasons import why
from tests.workflow.build import Sleeper, building
from tests.workflow.fakes import SECONDS, eventually
from tests.workflow.test_workflow import temporal

QUEUE, RUNS = "builds", 40


async def route(address: str, client: Client, what: str, *words: str) -> None:
    name = ("--deployment-name", QUEUE, "--yes")
    await temporal(address, "worker", "deployment", f"set-{what}-version", *name, *words)
    await ready(client, QUEUE)


async def sleeping(client: Client) -> WorkflowHandle[Any, bool]:
    handle = await client.start_workflow(Sleeper.run, id="pinned", task_queue=QUEUE)

    async def history() -> WorkflowHistory:
        return await handle.fetch_history()

    await eventually(history, lambda found: builds(found) != [])
    return handle


async def many(client: Client) -> list[WorkflowHistory]:
    """Runs that are woken at once."""
    call = {"task_queue": QUEUE, "start_signal": "wake"}
    runs = [
        await client.start_workflow(Sleeper.run, id=f"builds-{number}", **call)  # type: ignore
        for number in range(RUNS)
    ]
    await asyncio.gather(*(run.result() for run in runs))
    return [await run.fetch_history() for run in runs]


async def test_builds_side_by_side(client: Client, temporal_address: str) -> None:
    """Ramped to a tenth and to all, rolled back; a pinned run stays, waits, and is moved."""
    with ExitStack() as stack:
        old, _ = (
            stack.enter_context(building(temporal_address, QUEUE, build))
            for build in ("1.0", "2.0")
        )
        await ready(client, QUEUE, "1.0", "2.0")
        await route(temporal_address, client, "current", "--build-id", "1.0")
        pinned = await sleeping(client)
        seen = {}
        for percent in ("10", "100"):
            ramp = ("--build-id", "2.0", "--percentage", percent)
            await route(temporal_address, client, "ramping", *ramp)
            seen[f"{percent} %"] = await many(client)
        await route(temporal_address, client, "ramping", "--delete")
        seen["back"] = await many(client)
        await route(temporal_address, client, "current", "--build-id", "2.0")

        moved = {when: [builds(it) for it in runs].count(["2.0"]) for when, runs in seen.items()}
        assert 1 <= moved.pop("10 %") <= RUNS / 4
        assert moved == {"100 %": RUNS, "back": 0}
        assert table(seen).splitlines()[1:] == [
            f"{'100 %':<16}{RUNS} on 2.0",
            f"{'back':<16}{RUNS} on 1.0",
        ]
        legend = draw(seen).legends[0]
        assert [it.get_text() for it in legend.get_texts()] == ["build 1.0", "build 2.0"]
        assert await statuses(client, QUEUE) == {"1.0": "draining", "2.0": "current"}

        await asyncio.to_thread(old.communicate)
        await pinned.signal("wake")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pinned.result(), 1)
        assert builds(await pinned.fetch_history()) == ["1.0"]
        told = str(await why(client, pinned.id))
        assert "pinned to build 1.0 of builds" in told and "update-options" in told
        move = ("--workflow-id", pinned.id, "--versioning-override-behavior", "one_time")
        to = ("--versioning-override-deployment-name", QUEUE)
        to += ("--versioning-override-build-id", "2.0")
        await temporal(temporal_address, "workflow", "update-options", *move, *to)
        assert await asyncio.wait_for(pinned.result(), SECONDS)
        history = await pinned.fetch_history()
        assert builds(history) == ["1.0", "2.0"]
        bars = lives({"pinned": history, "new": seen["100 %"][0]}).axes[0].patches
        assert [bar.get_y() + bar.get_height() / 2 for bar in bars] == [0, 0, 1]
        assert bars[0].get_width() == bars[1].get_x() > bars[1].get_width()
        await drained(client, QUEUE, "1.0")
        with pytest.raises(TimeoutError):
            await drained(client, QUEUE, "2.0", seconds=0.1)


async def test_a_build_that_never_polls_is_not_ready(client: Client) -> None:
    with pytest.raises(TimeoutError):
        await ready(client, "nobody", "1.0", seconds=0.3)


def test_a_history_without_versions_has_no_build() -> None:
    assert builds(WorkflowHistory("none", [])) == []

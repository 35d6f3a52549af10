"""Retrain on a condition: three levels of the rubric, on files and models that are real."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError

from labkit.bench import Exercise, Fault, Try, expect, replay, require, try_out
from labkit.core.settings import paths
from labkit.datasets import COLUMNS

exercise = Exercise(
    task="Write Nightly: retrain when a file has drifted, ask when the model behaves, then switch.",
    hints=[
        "The order is drifted, train, complaint, a human, switch. Each of the first three may end "
        "the run with an answer. None of that is a failure.",
        "asks is True from the moment before wait_condition to the decision, or to its timeout. "
        "wait_condition raises TimeoutError, and the run returns 'expired' then.",
        "A validator beside decide refuses what nobody has asked for, and a rejection without a "
        "reason: @decide.validator, as in notebook 07.",
    ],
    right="Most nights end with 'kept', and cost a look at a file. A human hears of the others.",
)


@exercise.shared
def sample(mine: ModuleType) -> pd.DataFrame:
    return pd.read_csv(paths().example, names=list(COLUMNS))[["length", "rings"]]


@contextmanager
def night(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[str]:
    """A folder as the activities expect it, with something that stands for the model on prod."""
    with tempfile.TemporaryDirectory() as folder:
        old.to_csv(Path(folder, "trained_on.csv"), index=False)
        new.to_csv(Path(folder, "new.csv"), index=False)
        Path(folder, "prod.joblib").write_bytes(b"the model before")
        yield folder


def longer(mine: ModuleType) -> pd.DataFrame:
    """Six hundred shells, measured a tenth too long."""
    return sample(mine)[1000:1600].assign(length=sample(mine).length * 1.1)


def run(mine: ModuleType, new: pd.DataFrame, **how: Any) -> tuple[Try, bool]:
    """A night to its end, and whether prod has another model afterwards."""
    steps = [mine.drifted, mine.train, mine.complaint, mine.switch]
    with night(sample(mine)[:1000], new) as folder:
        done = try_out(mine.Nightly, folder, activities=steps, **how).ended()
        return done, Path(folder, "prod.joblib").read_bytes() != b"the model before"


def decides(approved: bool, reason: str) -> Callable[[Client, WorkflowHandle], Any]:
    """Somebody who decides as soon as they are asked."""

    async def decide(client: Client, handle: WorkflowHandle) -> None:
        for _ in range(100):
            if await handle.query("asks"):
                await handle.execute_update("decide", args=[approved, reason])
                return
            if (await handle.describe()).close_time:
                return
            await asyncio.sleep(0.02)

    return decide


def trained(done: Try) -> int:
    return done.effects("train").count("trained")


@exercise.shared
def approved(mine: ModuleType) -> tuple[Try, bool]:
    return run(mine, longer(mine), meanwhile=decides(True, ""))


@exercise.shared
def rejected(mine: ModuleType) -> tuple[Try, bool]:
    return run(mine, longer(mine), meanwhile=decides(False, "the scale was wrong"))


@exercise.shared
def expired(mine: ModuleType) -> tuple[Try, bool]:
    return run(mine, longer(mine), skip=timedelta(days=31))


@exercise.case("enough: nothing has drifted: kept, and nothing was trained")
def _(mine: ModuleType) -> None:
    done, switched = run(mine, sample(mine)[1000:1600], meanwhile=decides(True, ""))
    expect(done.result, "kept")
    expect((trained(done), switched), (0, False), "trained, switched")


@exercise.case("enough: it has drifted: trained once, approved, and on prod")
def _(mine: ModuleType) -> None:
    done, switched = approved(mine)
    expect(done.result, "on prod")
    expect((trained(done), switched), (1, True), "trained, switched")


@exercise.case("enough: a model that misbehaves is refused, and nobody is asked")
def _(mine: ModuleType) -> None:
    upside_down = longer(mine).assign(rings=30 - sample(mine).rings)
    done, switched = run(mine, upside_down, meanwhile=decides(True, ""))
    expect(done.result, "refused: a longer shell is younger")
    expect(switched, False, "switched")


@exercise.case("good: rejected, with the reason, and prod is untouched")
def _(mine: ModuleType) -> None:
    done, switched = rejected(mine)
    expect(done.result, "rejected: the scale was wrong")
    expect(switched, False, "switched")


@exercise.case("good: nobody decides within 30 days: expired, and prod is untouched")
def _(mine: ModuleType) -> None:
    done, switched = expired(mine)
    expect(done.result, "expired")
    expect(switched, False, "switched")


@exercise.case("excellent: a decision before the question is refused")
def _(mine: ModuleType) -> None:
    async def decide_early(client: Client, handle: WorkflowHandle) -> None:
        await refused(handle, [True, ""])
        await decides(True, "")(client, handle)

    # The first attempt fails, so that there is a second in which nobody is asked.
    done, _ = run(mine, longer(mine), meanwhile=decide_early, fault={"drifted": Fault()})
    expect(done.result, "on prod")


@exercise.case("excellent: a rejection without a reason is refused")
def _(mine: ModuleType) -> None:
    async def decide_twice(client: Client, handle: WorkflowHandle) -> None:
        while not await handle.query("asks"):
            await asyncio.sleep(0.02)
        await refused(handle, [False, " "])
        await decides(True, "")(client, handle)

    done, _ = run(mine, longer(mine), meanwhile=decide_twice)
    expect(done.result, "on prod")


@exercise.case("excellent: the histories replay, in another process, too")
def _(mine: ModuleType) -> None:
    for done, _ in (approved(mine), rejected(mine), expired(mine)):
        assert done.history
        expect(replay(mine.Nightly, done.history), "")
    expect(replay(mine.Nightly, done.history, hash_seed=3), "")


async def refused(handle: WorkflowHandle, decision: list[Any]) -> None:
    try:
        await handle.execute_update("decide", args=decision)
    except WorkflowUpdateFailedError:
        return
    require(False, "the update was accepted")

"""Whole runs, and then a search for every plaintext in the server's database file."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from labkit import Lab, encryption
from labkit.ask.client import connect
from labkit.ask.xray import search_database
from labkit.core.settings import LabError, paths, settings
from labkit.pipeline.messages import PipelineInput, ProprietaryConfig, Status
from labkit.run import Run
from tests.workflow.fakes import Bench, eventually

ROWS = "\n".join(["M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15"] * 40)


def waits(run: Run) -> Run:
    run.follow(until="awaiting_prod_approval")
    return run


def a_life(lab: Lab, word: str, folder: Path) -> list[Run]:
    """Runs that are approved, rejected, fail, and retry; each with secrets that hold a word."""
    bad = folder / "bad.csv"
    bad.write_text(ROWS + f"\nM,{word}-cell,0.365,0.095,0.514,0.2245,0.101,0.15,15")
    with lab.env(LABKIT_ARCHITECTURE=f"{word}-net", LABKIT_SPEED="50", LABKIT_OPAQUE_IDS="true"):
        with lab.fault("training", times=2):
            approved = waits(lab.drop(f"good-{word}-file.csv"))
        rejected = waits(lab.drop(f"good-{word}-file.csv"))
        failed = lab.drop(f"{word}-file.csv", source=bad)
        failed.follow()
    approved.approve(by=f"{word}-ann")
    rejected.reject(by=f"{word}-bob", reason=f"{word}-reason")
    approved.follow()
    rejected.follow()
    return [approved, rejected, failed]


def secrets_of(word: str) -> list[str]:
    kinds = ("net", "file", "cell", "ann", "bob", "reason")
    return [f"{word}-{kind}" for kind in kinds] + [word]


def test_an_encrypted_life_leaves_no_plaintext(sealed: Lab, tmp_path: Path) -> None:
    runs = a_life(sealed, "cryptic", tmp_path)
    found = search_database([*secrets_of("cryptic"), runs[0].id])
    assert found.pop(runs[0].id), "the search reads the right file"
    assert [text for text, there in found.items() if there] == []
    # The lab has never written in clear, so nothing that any run says may be there.
    common = [
        "RandomForestRegressor",
        "joblib",
        "dropout_schedule",
        "deployed_to_prod",
        "Traceback",
    ]
    assert [text for text, there in search_database(common).items() if there] == []
    for run in runs:
        readable = [i for i in run.xray().items if i.encoding not in ("binary/encrypted",)]
        patches = [i for i in readable if i.kind == "MARKER_RECORDED"]
        assert all("record-approvals" in i.stored and i.size < 60 for i in patches)
        others = [i for i in readable if i not in patches]
        assert all(i.what.startswith("search attributes") or "failure" in i.what for i in others)
        assert {i.stored for i in readable if "failure" in i.what} <= {"Encoded failure"}
    assert any("cryptic-cell" in i.decoded for i in runs[2].xray("failure").items)


def test_the_search_finds_all_of_a_plain_life(sealed: Lab, tmp_path: Path) -> None:
    """The test above can fail. This one comes last on the lab, whose file is no longer clean."""
    sealed.restart(encrypted=False)
    try:
        runs = a_life(sealed, "obvious", tmp_path)
        found = search_database([*secrets_of("obvious"), "never written"])
        assert found == dict.fromkeys(secrets_of("obvious"), True) | {"never written": False}
        assert repr(found).splitlines()[-1].split() == ["never", "written", "not", "found"]
        assert repr(found).count("found in plain text") == len(secrets_of("obvious"))
        assert {item.encoding for item in runs[0].xray().items} == {"json/plain", "text"}
    finally:
        sealed.restart(encrypted=True)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_heartbeats_memo_details_and_tracebacks(sealed: Lab, encrypted: bool) -> None:
    """The surfaces that the lab's own pipeline hardly uses, each with a word of its own."""
    word = f"surface{encrypted}"
    client = await connect(encrypted)
    bench = Bench(client)

    async def behave(request: Any, attempt: int) -> None:
        activity.heartbeat({"beat": f"{word}-beat"})
        await asyncio.sleep(0.6)
        if attempt == 1:
            raise ApplicationError(f"{word}-error", f"{word}-detail")
        raise ApplicationError(f"{word}-end", non_retryable=True)

    bench.fakes.on["train_model"] = behave
    async with bench.worker():
        handle = await client.start_workflow(
            "MLOpsWorkflow",
            PipelineInput("x.csv", speed=50, proprietary_config=ProprietaryConfig(f"{word}-net")),
            id=f"mlops-{time.time_ns()}",
            task_queue=bench.queue,
            result_type=Status,
            memo={"note": f"{word}-memo"},
            static_summary=f"{word}-summary",
            static_details=f"{word}-details",
            execution_timeout=timedelta(minutes=1),
        )
        run = bench.run(handle)
        pending = await eventually(
            lambda: asyncio.to_thread(run.xray, "heartbeat"), lambda x: bool(x.items)
        )
        assert f"{word}-beat" in pending.items[0].decoded
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    kinds = ("net", "beat", "error", "end", "detail", "memo", "summary", "details")
    found = search_database([f"{word}-{kind}" for kind in kinds])
    assert set(found.values()) == {not encrypted}, found


# ---------------------------------------------------------------- keys


def test_rotation_under_load(sealed: Lab) -> None:
    """Keys change while runs are under way; each ends well, and all can be read."""
    runs = [sealed.drop(f"good-load-{n}.csv") for n in range(3)]
    old = encryption.key_ids()[0]
    new = encryption.rotate_key()
    sealed.restart(encrypted=True)
    runs += [sealed.drop(f"good-load-{n}.csv") for n in range(3, 5)]
    for run in runs:
        waits(run).approve(by="ann")
    for run in runs:
        run.follow()
        assert run.status().deployment_status == "deployed_to_prod"
        assert set(run.xray().key_ids()) <= {old, new}
    assert runs[0].xray().key_ids() == [old, new]
    assert runs[-1].xray().key_ids() == [new]


async def test_a_worker_reads_a_newer_key_without_a_restart(sealed: Lab) -> None:
    run = sealed.drop("good-newer.csv")
    await asyncio.to_thread(waits, run)
    encryption.rotate_key()
    client = await connect(encrypted=True)  # writes with a key that the worker never saw
    await client.get_workflow_handle(run.id).signal("approve_prod_deployment", "newer-ann")
    await asyncio.to_thread(run.follow)
    assert run.status().decision.by == "newer-ann"  # type: ignore[union-attr]


def test_a_retired_key(sealed: Lab) -> None:
    run = sealed.drop("good-retired.csv")
    waits(run).reject(by="ann", reason="retired soon")
    run.follow()
    (old,) = run.xray().key_ids()
    before = settings().temporal_encryption_key.get_secret_value()
    encryption.rotate_key()
    with sealed.env(TEMPORAL_ENCRYPTION_KEY=encryption.keys_without(old)):
        with pytest.raises(LabError, match="Rotate after it"):
            encryption.rotate_key()
        assert old not in encryption.key_ids()
        sealed.restart(encrypted=True)
        items = run.xray("input").items
        assert items and all("cannot be read" in i.decoded and old in i.decoded for i in items)
        assert not [key for key in before.split(",") if key in repr(run.xray())]
    sealed.restart(encrypted=True)
    assert "AbaloneNet-7" in run.xray("workflow_execution_started input").items[0].decoded


def test_the_key_in_use_is_not_retired(sealed: Lab) -> None:
    for id, words in ((encryption.key_ids()[0], "rotate first"), ("00000000", "is not there")):
        with pytest.raises(LabError, match=words):
            encryption.retire_key(id)


def test_a_change_of_the_kind_of_id_starts_nothing_twice(sealed: Lab) -> None:
    """The watcher offers every file again when it starts: it must know both kinds of id."""
    named = sealed.drop("good-named.csv")
    with sealed.env(LABKIT_OPAQUE_IDS="true"):
        nameless = sealed.drop("good-nameless.csv")
        sealed.restart(encrypted=True)
        for run in (named, nameless):
            waits(run)
    sealed.restart(encrypted=True)
    waits(sealed.drop("good-last.csv"))  # by then, the older files have been offered
    ids = [run.id for run in sealed.runs()]
    assert [id for id in ids if "nameless" in id] == []
    assert [id for id in ids if id.endswith("-named")] == [named.id]
    assert nameless.id in ids


# ---------------------------------------------------------------- mixtures, cost, logs


def labkit(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "labkit", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def mixture(sealed: Lab) -> Iterator[tuple[list[Run], list[Run]]]:
    """Three encrypted and two plain runs, which wait, and a lab that is plain."""
    encrypted = [sealed.drop("good-mixed.csv") for _ in range(3)]
    sealed.restart(encrypted=False)
    plain = [sealed.drop("good-mixed.csv") for _ in range(2)]
    for run in encrypted + plain:
        waits(run)
    yield encrypted, plain
    sealed.restart(encrypted=True)


def test_decisions_on_a_mixture(mixture: tuple[list[Run], list[Run]]) -> None:
    """From the shell and from a notebook, a decision is sent as secret as its run was started.

    What the plain worker then makes of it, the run's result among it, is in clear.
    """
    (first, second, third), (fourth, fifth) = mixture
    assert "is approved" in labkit("approve", first.id, "--by", "mix-ann")
    assert "is rejected" in labkit("reject", second.id, "--by", "mix-bob", "--reason", "mix-old")
    third.approve(by="mix-cy")
    assert "is rejected" in labkit("reject", fourth.id, "--by", "mix-dot", "--reason", "mix-new")
    fifth.approve(by="mix-eve")
    known = labkit("status")
    for run, words in zip(
        (first, second, third, fourth, fifth),
        (["mix-ann"], ["mix-old"], ["mix-cy"], ["mix-new"], ["mix-eve"]),
        strict=True,
    ):
        run.follow()
        assert run.id in known
        assert all(word in labkit("status", run.id) for word in words)
        said = [i for i in run.xray("update_accepted").items if "mix-" in i.decoded]
        sealed = run in (first, second, third)
        assert {item.encoding for item in said} == {"binary/encrypted" if sealed else "json/plain"}


@pytest.fixture
def every_secret(sealed: Lab) -> Iterator[list[str]]:
    config = settings()
    yield [
        *encryption.key_source(),
        config.postgres_password.get_secret_value(),
        config.labkit_codec_token.get_secret_value(),
        config.labkit_id_key.get_secret_value(),
    ]


def test_no_log_holds_a_secret(sealed: Lab, every_secret: list[str]) -> None:
    """Every file that the lab has written in all these tests, but ``.env`` itself, and the copy
    of the password that PostgreSQL's data were made with, which is as private."""
    assert len(every_secret) >= 4 and all(len(secret) >= 20 for secret in every_secret)
    files = [
        path
        for path in paths().lab.rglob("*")
        if path.is_file() and "postgres" not in path.parts and path.name != "postgres.password"
    ]
    assert (paths().lab / "postgres.password").stat().st_mode & 0o077 == 0
    files += list(paths().data.rglob("*.json")) + list(paths().config.rglob("*"))
    assert any(path.suffix == ".log" and path.stat().st_size for path in files)
    pattern = re.compile("|".join(map(re.escape, every_secret)).encode())
    assert [
        path.name for path in files if path.is_file() and pattern.search(path.read_bytes())
    ] == []

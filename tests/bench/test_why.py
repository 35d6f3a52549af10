"""Each way to hang is caused on a real server, and ``why`` names it; what mends it, mends it."""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import nbformat
import pytest
from clinic import activities as acts
from clinic import workflows as flows
from clinic.ward import Clinic
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig

from labkit.ask.reasons import why
from labkit.bench import with_client
from labkit.core.settings import REPOSITORY, LabError
from labkit.run import Run


class OnTheBench:
    """What a run asks, on the bench's loop: a lab's worker and watcher are of no use here."""

    def call(self, make: Callable[..., Any]) -> Any:
        return with_client(make, 20)

    async def ask(self, make: Callable[..., Any]) -> Any:
        raise NotImplementedError

    def task(self, make: Callable[[], Any]) -> Future:
        raise NotImplementedError

    def run(self, id: str) -> Run:
        return Run(id, self)


@pytest.fixture
def clinic(temporal: Path) -> Iterator[Clinic]:
    clinic = Clinic(OnTheBench())
    yield clinic
    clinic.close()


# What makes a run ill, what is said of it, what to do, and what is said when it is well again.
CASES = {
    "no_worker": (
        r"No worker polls the task queue clinic-no-worker-\w+; its workflow task has waited for "
        r"\d\.\d s\.",
        r"Start one there\.",
        r"A worker polls its task queue now\. The run has completed: 'fetched'\.",
    ),
    "wrong_queue": (
        r"No worker polls the task queue clinic-wrong-queue-\w+-gpuu; train has waited for .*",
        r"Start one there\. Or is its name misspelt\? The workflow itself is on clinic-wrong-\S+",
        r".* polls clinic-wrong-queue-\w+-gpuu now\. The run has completed: 'trained'\.",
    ),
    "missing_activity": (
        r"train has failed (once|twice|\d times), last with NotFoundError: Activity function train "
        r"for workflow \S+ is not registered on this worker, available activities: fetch\.",
        r"Register train with a worker on that task queue: .*",
        r"Its worker has train now\. The run has completed: 'trained'\.",
    ),
    "not_current": (
        r"A worker of version (clinic-not-current-\w+):1\.0 polls the task queue \1, but that "
        r"version is not current, so it gets nothing; its workflow task has waited for .*",
        r"temporal worker deployment set-current-version --deployment-name clinic-\S+ "
        r"--build-id 1\.0 --yes",
        r"Version 1\.0 is current now\. The run has completed: 'fetched'\.",
    ),
    "plain_exception": (
        r"The workflow's own code fails: KeyError: '?accuracy'?",
        r"Correct the code, and start the worker again\. The run goes on by itself\.",
        r"The bug is mended\. The run has completed: 'accuracy 0\.00'\.",
    ),
    "changed_code": (
        r"This code cannot replay its history: .*TMPRL1100.*",
        r"Start a worker with the old code, or put the change behind workflow\.patched\(\)\.",
        r"The check is behind .* The run has completed: 'trained'\.",
    ),
    "blocked_loop": (
        r"A worker took its workflow task \d\.\d s ago and has not answered\. That takes "
        r"milliseconds: the worker's event loop is blocked, or it died\.",
        r"Look for a call that blocks in an async def on that worker\. .*",
        r"The other one's call has returned\. The run has completed: 'fetched'\.",
    ),
    "wrong_argument": (
        r"count_file has failed (once|twice|\d+ times), last with .*Failed decoding arguments.*",
        r"Its code has not run: an argument is not of the type that it asks for\.",
        r"The activity takes a number now\. The run has completed: 7\.",
    ),
    "large_argument": (
        r"Its code gives away more than a message may hold: .*TMPRL1103.*",
        r"Write it to a file or a bucket, and pass where it is\.",
        r"A new run passes the path\. The run has completed: 60000\.",
    ),
    "large_result": (
        r"read_all has failed (once|twice|\d times), last with PayloadsTooLarge: .*",
        r"It ran, and its result is too large to be kept\. .*",
        r"The same activity returns the path now, and the run has completed\.",
    ),
    "swallowed_error": (
        r"It completed, and no attempt failed\. Its result: 'error: Connection refused'",
        r"If that is an error in words, an activity has caught it\. Let it raise instead\.",
        r"A new run raises, .* The run has completed: 'logged'\.",
    ),
    "long_budget": (
        r"log_or_raise has failed .*, last with ConnectionRefusedError: .* The run times out in "
        r"\d\.\d s, and nothing else ends the retries\.",
        r"Give log_or_raise a schedule_to_close_timeout that ends before the run does\.",
        r"A new run, with a limit .* The run has completed: 'it gave up, and cleaned up'\.",
    ),
    "no_heartbeat": (
        r"silent is in attempt 1, for \d\.\d s\. It has no heartbeat timeout, so a dead worker and "
        r"a slow one look the same until start-to-close, 3600 s\.",
        r"Heartbeat, with a heartbeat_timeout\. .* temporal activity fail --workflow-id \S+ "
        r"--activity-id 1",
        r"Its attempt was ended from outside, .* The run has completed: None\.",
    ),
    "deaf_to_cancel": (
        r"It was asked to cancel, and waits for stubborn, which heartbeats and goes on\. .*",
        r"A heartbeat is answered with CancelledError, which is an Exception: .*",
        r"The first one had to be let go, and has completed: the request was lost\. One without "
        r"that except was cancelled after \d\.\d s\.",
    ),
    "zombie": (
        r"export is in attempt 2, for \d\.\d s, after: .*StartToClose timeout\. The attempt before "
        r"may still be at work beside it\.",
        r"A timeout stops no thread\. .*",
        r"A new run's activity heartbeats\. Two attempts wrote together for 0\.[0-5]\d s\.",
    ),
    "hung_dependency": (
        r"ask is in attempt 1, for \d\.\d s\. Its last heartbeat came \d\.\d s ago, so its worker "
        r"lives\. .*",
        r"Give the call that it waits in a timeout of its own\.",
        r"The call has a limit now, so it is tried again\. The run has completed: 200\.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_named_and_cured(
    case: str, clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence, todo, cured = CASES[case]
    run = getattr(clinic, case)()
    run.why()
    said = capsys.readouterr().out
    assert re.fullmatch(
        rf"{re.escape(run.id)}: (?:{sentence})\n  What to do: (?:{todo})\n", said
    ), said
    clinic.cure(run)
    said = capsys.readouterr().out
    assert re.fullmatch(rf"{cured}\n", said), said


def test_two_attempts_at_once(clinic: Clinic) -> None:
    assert clinic.overlap(clinic.zombie()) > 0.3


def test_a_budget_that_outlives_its_run(clinic: Clinic) -> None:
    run = clinic.long_budget()
    clinic.wait(run)
    found = sentence(run)
    assert re.fullmatch(
        r"The run's own timeout was over after 2\.\d s, while log_or_raise was at attempt \d+\. "
        r"None of its code ran at the end\.",
        found,
    ), found


def test_a_budget_that_ends_in_time_by_itself(clinic: Clinic) -> None:
    """The server lets no activity last longer than its run: so its code may have its turn."""
    found = sentence(clinic.budget_at_once())
    assert found == "It completed. Its result: 'it gave up, and cleaned up'"


def test_the_notebook_has_each_of_them() -> None:
    """Each way to hang is caused there, and described; it is cured, or there is nothing to cure."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "09-clinic.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for case in CASES:
        name = re.findall(rf"^(\w+) = clinic\.{case}\(\)$", code, re.MULTILINE)[0]
        assert f"lab.why({name})" in code, case
        cured = rf"\.cure\({name}\)|for run in \([^)]*\b{name}\b"
        assert re.search(cured, code), case
    for case in ("two_limits", "cancel_and_terminate", "budget_at_once", "neighbour"):
        assert f"clinic.{case}()" in code, case


def test_the_limit_of_one_attempt_and_of_all(clinic: Clinic) -> None:
    one, all = clinic.two_limits()
    assert sentence(one) == (
        "It failed: an attempt of silent took longer than 1 s, which is its start-to-close."
    )
    assert sentence(all) == (
        "It failed: all attempts of silent together had 2 s, which is its schedule-to-close."
    )


def test_two_ends(clinic: Clinic) -> None:
    cancelled, terminated = clinic.cancel_and_terminate()
    assert sentence(cancelled) == "It ended: cancelled."
    assert sentence(terminated) == "It was terminated. None of its code ran at the end."
    assert clinic.has_tidied_up(cancelled) and not clinic.has_tidied_up(terminated)


def test_who_shares_a_worker_waits(clinic: Clinic) -> None:
    alone, blocked, threaded = clinic.neighbour().values()
    assert blocked > 3 * threaded and blocked > 3 * alone


def test_neighbours_beside_each_other(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [clinic.no_worker(), clinic.missing_activity(), clinic.blocked_loop()]
    clinic.compare(*runs, clinic.not_current(), clinic.wrong_queue(), clinic.plain_exception())
    rows = [
        line.replace("2 or more", "more").replace("tried again", "again").split()
        for line in capsys.readouterr().out.splitlines()
    ]
    assert rows[1] == ["no-worker", "scheduled", "-", "1", "-", "none"]
    assert rows[2][:4] == ["missing-activity", "-", "again", "more"]
    assert rows[2][-2:] == ["yes", "some"]
    assert rows[3] == ["blocked-loop", "started", "-", "1", "-", "some"]
    assert rows[4] == ["not-current", "scheduled", "-", "1", "-", "some"]
    assert rows[5] == ["wrong-queue", "-", "scheduled", "1", "-", "none"]
    assert rows[6] == ["plain-exception", "again", "-", "more", "-", "some"]


def test_a_version_that_is_gone(clinic: Clinic) -> None:
    """A run that is pinned to it waits for ever, whoever else polls."""
    queue = clinic._name("pinned")
    one, two = (_version(queue, build) for build in ("1.0", "2.0"))
    clinic._work(queue, [flows.Before], deployment_config=one)
    _make_current(queue, "1.0")
    clinic._begin(queue, flows.Before)
    run = clinic._shows(clinic._lab.run(queue), "Nothing is pending")
    clinic._work(queue, [flows.After], deployment_config=two)
    _make_current(queue, "2.0")
    with_client(lambda client: client.get_workflow_handle(queue).signal("go"))
    clinic._shows(run, "is pinned")
    assert re.fullmatch(
        rf"It is pinned to build 1\.0 of {queue}, and after \d\.\d s no worker of that build has "
        r"taken its task\.",
        sentence(run),
    )


def _version(queue: str, build: str) -> WorkerDeploymentConfig:
    version = WorkerDeploymentVersion(queue, build)
    return WorkerDeploymentConfig(version, True, VersioningBehavior.PINNED)


def _make_current(queue: str, build: str) -> None:
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace="default", deployment_name=queue, build_id=build
    )

    async def until_known(client: Client) -> None:
        while True:
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
            except RPCError:  # no worker of it has polled yet
                await asyncio.sleep(0.1)
            else:
                return

    with_client(until_known, 20)


def test_a_worker_whose_slots_are_taken(clinic: Clinic) -> None:
    queue = clinic._name("full")
    clinic._work(queue, activities=[acts.silent, acts.fetch], max_concurrent_activities=1)
    limits = {"start_to_close_timeout": 60}
    clinic._begin(queue, flows.OneActivity, "silent", [], limits)
    clinic._until(lambda: queue in acts.RELEASED)
    clinic._begin(f"{queue}-2", flows.OneActivity, "fetch", [], limits, on=queue)
    run = clinic._shows(clinic._lab.run(f"{queue}-2"), "fetch has waited")
    found = sentence(run)
    assert found.startswith(f"Nobody takes work from the task queue {queue}; fetch has waited for ")
    assert found.endswith(" s ago: it is gone, or all of its slots are taken.")


def test_there_is_no_such_run(temporal: Path) -> None:
    with pytest.raises(LabError, match="There is no workflow nowhere"):
        OnTheBench().run("nowhere").why()


def sentence(run: Run) -> str:
    return with_client(lambda client: why(client, run.id)).sentence

"""The approval panel without a browser: its buttons are pressed, and its words are read."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.ask.look import View
from labkit.core.settings import LabError
from labkit.pipeline.messages import Decision, QualityMetrics, Status
from labkit.run import Run
from labkit.views import approval
from labkit.views.approval import ApprovalPanel, facts, state
from labkit.views.buttons import BUSY
from tests.workflow.fakes import SECONDS, Bench, Handle, eventually, fails, made

Open = Callable[[Handle], Any]


@pytest.fixture
def opened(bench: Bench) -> Iterator[Open]:
    """Opens panels, and closes them at the end."""
    panels: list[ApprovalPanel] = []

    async def panel_of(handle: Handle) -> ApprovalPanel:
        panels.append(ApprovalPanel(bench.run(handle)))
        await looked(panels[-1])
        return panels[-1]

    yield panel_of
    for panel in panels:
        panel.close()


def words(panel: ApprovalPanel, line: str) -> str:
    return approval._text(getattr(panel, f"_{line}"))


async def says(panel: ApprovalPanel, line: str, text: str) -> str:
    async def read() -> str:
        return words(panel, line)

    return await eventually(read, lambda said: text in said)


async def looked(panel: ApprovalPanel) -> None:
    """Wait until the panel has looked at its run for the first time."""
    async with asyncio.timeout(SECONDS):
        while words(panel, "state").startswith("Looking at the run"):
            await asyncio.sleep(0.01)


def buttons(panel: ApprovalPanel) -> list[bool]:
    """Whether Approve and Reject take a press."""
    both = (panel._approve, panel._reject)
    return [not (b.disabled or BUSY in b._dom_classes) for b in both]


async def test_it_shows_who_asks_and_the_figures(bench: Bench, opened: Open) -> None:
    handle = await bench.awaiting(name="good <b>&.csv")
    panel = await opened(handle)
    shown = panel._facts.value
    assert handle.id in shown and "good &lt;b&gt;&amp;.csv" in shown
    assert "http://dev/models/good-" in shown
    assert ">0.900</td><td" in shown and "above 0.85" in shown and "at most 2.50" in shown
    assert shown.count("passes") == 4
    status = await bench.status(handle)
    for moment in (status.approval_asked, status.approval_deadline):
        assert moment[:19].replace("T", " ") in words(panel, "state")
    assert buttons(panel) == [True, True]
    assert [panel._by.description, panel._reason.description] == ["Your name", "Reason"]


async def test_pressing_approve(bench: Bench, opened: Open) -> None:
    handle = await bench.awaiting()
    panel = await opened(handle)
    panel._by.value = " ann "
    panel._approve.click()
    assert buttons(panel) == [False, False]
    await says(panel, "said", "Taken.")
    status = await handle.result()
    assert made(status) == Decision(True, "ann")
    assert (await says(panel, "state", "The run is over: completed: deployed to prod.")).startswith(
        "Approved by ann at 2"
    )
    assert buttons(panel) == [False, False]


@pytest.mark.parametrize("approved", [True, False], ids=["approve", "reject"])
async def test_the_plain_calls(bench: Bench, opened: Open, approved: bool) -> None:
    handle = await bench.awaiting()
    panel = await opened(handle)
    decide = panel.approve if approved else panel.reject
    assert await asyncio.to_thread(decide, "ann", "because") == "Taken."
    assert made(await handle.result()) == Decision(approved, "ann", "because")
    said = await asyncio.to_thread(decide, "bob", "late")
    verb = "Approved" if approved else "Rejected"
    assert said.startswith(f"Not sent. {verb} by ann at ") and ": because." in said


async def test_a_plain_call_at_once(bench: Bench) -> None:
    """As in Run All: nobody has looked at the run yet."""
    handle = await bench.awaiting()
    panel = ApprovalPanel(bench.run(handle))
    assert await asyncio.to_thread(panel.approve, "ann") == "Taken."
    await handle.result()
    panel.close()


@pytest.mark.parametrize(
    ("approved", "by", "reason", "missing"),
    [(True, "", "", "name"), (False, " ", "old", "name"), (False, "bob", " ", "reason")],
    ids=["approve-nameless", "reject-nameless", "reject-without-reason"],
)
async def test_what_is_missing_is_said(
    bench: Bench, opened: Open, approved: bool, by: str, reason: str, missing: str
) -> None:
    handle = await bench.awaiting()
    panel = await opened(handle)
    panel._by.value, panel._reason.value = by, reason
    (panel._approve if approved else panel._reject).click()
    assert words(panel, "said").startswith(
        f"Not sent. Write {'your' if missing == 'name' else 'a'}"
    )
    assert missing in words(panel, "said")
    assert buttons(panel) == [True, True]
    assert (await bench.status(handle)).awaiting_approval
    await handle.terminate()


class Slow:
    """A run whose answer to a decision waits for something; it counts what is sent."""

    def __init__(self, run: Run, wait: Callable[[], Awaitable[object]]) -> None:
        self.id, self.url, self.task = run.id, run.url, run.task
        self.look, self.answers = run.look, run.answers
        self._run, self._wait = run, wait
        self.sent = 0

    async def decide(self, decision: Decision) -> None:
        self.sent += 1
        await self._wait()
        await self._run.decide(decision)


async def nothing() -> None:
    """Wait for nothing."""


async def test_a_double_click_sends_once(bench: Bench) -> None:
    go_on = asyncio.Event()
    handle = await bench.awaiting()
    slow = Slow(bench.run(handle), go_on.wait)
    panel = ApprovalPanel(slow)
    await looked(panel)
    panel._by.value = "ann"
    for _ in range(2):
        panel._approve.click()
    assert words(panel, "said") == "Under way …"
    await asyncio.sleep(2 * approval.LOOK_SECONDS)  # the panel looks, and leaves the buttons be
    assert buttons(panel) == [False, False]
    panel._reject.click()
    go_on.set()
    await says(panel, "said", "Taken.")
    panel._approve.click()  # the slow third click of an impatient hand
    assert words(panel, "said") == "Taken."
    await handle.result()
    assert slow.sent == 1
    panel.close()


async def test_a_decision_elsewhere_shows_within_a_second(bench: Bench, opened: Open) -> None:
    handle = await bench.awaiting()
    panel = await opened(handle)
    await handle.signal("reject_prod_deployment", args=["bob", "too young"])
    async with asyncio.timeout(1):
        await says(panel, "state", "Rejected by bob at ")
    assert buttons(panel) == [False, False]


async def test_a_refused_decision(bench: Bench) -> None:
    """Somebody is faster between the look and the press."""
    handle = await bench.awaiting()
    run = bench.run(handle)
    go_on = asyncio.Event()
    bench.fakes.on["deploy_to_prod"] = lambda request, attempt: go_on.wait()
    panel = ApprovalPanel(Slow(run, lambda: run.decide(Decision(True, "bob"))))
    await looked(panel)
    said = await asyncio.to_thread(panel.approve, "ann")
    assert (
        said
        == f"Not taken. {run.id} refused the decision: AlreadyDecided: Already approved by bob."
    )
    assert words(panel, "state").startswith("Approved by bob at ")
    assert "The run is at prod_deployment." in words(panel, "state")
    go_on.set()
    await handle.result()
    panel.close()


async def test_a_late_decision(bench: Bench) -> None:
    handle = await bench.awaiting()
    run = bench.run(handle)

    async def too_late() -> None:
        await run.decide(Decision(False, "bob", "old"))
        await handle.result()

    panel = ApprovalPanel(Slow(run, too_late))
    await looked(panel)
    said = await asyncio.to_thread(panel.approve, "ann")
    assert said.startswith("Not taken.") and "already completed" in said
    assert "Rejected by bob" in words(panel, "state")
    panel.close()


async def test_a_request_that_expires_shows(bench: Bench, opened: Open) -> None:
    handle = await bench.awaiting(approval_days=1 / 86400)
    panel = await opened(handle)
    await handle.result()
    await says(panel, "state", "nobody decided within 1 seconds.")
    assert buttons(panel) == [False, False]


async def test_it_may_be_shown_early(bench: Bench, opened: Open) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["train_model"] = lambda request, attempt: go_on.wait()
    handle = await bench.start()
    await bench.until(handle, "model_training")
    panel = await opened(handle)
    assert words(panel, "state") == "No decision is awaited. The run is at model_training."
    assert buttons(panel) == [False, False] and panel._try.disabled
    said = await asyncio.to_thread(panel.approve, "ann")
    assert said == "Not sent. No decision is awaited. The run is at model_training."
    go_on.set()
    await says(panel, "state", "Waits for a decision")
    assert buttons(panel) == [True, True] and not panel._try.disabled
    await handle.terminate()
    await says(panel, "state", "The run is over: terminated")
    assert buttons(panel) == [False, False]


async def test_an_outage_after_the_decision_shows(bench: Bench, opened: Open) -> None:
    bench.fakes.on["record_approval"] = fails(times=3, kind="ConnectionRefused")
    handle = await bench.awaiting(speed=10)
    panel = await opened(handle)
    await asyncio.to_thread(panel.approve, "ann")
    await says(panel, "state", "Its last attempt failed: ConnectionRefused")
    await handle.result()


async def test_no_worker_and_back(idle: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle.worker():
        handle = await idle.awaiting()
        panel = ApprovalPanel(idle.run(handle))
        await looked(panel)
    await says(panel, "state", "No worker answers on the task queue")
    assert buttons(panel) == [False, False]
    async with idle.worker():
        await says(panel, "state", "Waits for a decision")
        assert buttons(panel) == [True, True]
        await asyncio.to_thread(panel.reject, "ann", "enough")
        await handle.result()
    panel.close()


async def test_looking_has_an_end(
    bench: Bench, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "WATCH_SECONDS", 0.1)
    handle = await bench.awaiting()
    panel = await opened(handle)
    await says(panel, "said", "To look on, show the panel again.")
    await handle.terminate()


async def test_closed_it_looks_no_longer(bench: Bench) -> None:
    handle = await bench.awaiting()
    run = bench.run(handle)
    slow = Slow(run, nothing)
    looks = []
    slow.look = lambda: looks.append(1) or run.look()
    panel = ApprovalPanel(slow)
    await looked(panel)
    panel.close()
    await asyncio.sleep(approval.LOOK_SECONDS)
    before = len(looks)
    await asyncio.sleep(2 * approval.LOOK_SECONDS)
    assert len(looks) == before
    await handle.terminate()


async def test_an_error_that_nobody_thought_of_is_said(bench: Bench) -> None:
    class Broken(Slow):
        async def decide(self, decision: Decision) -> None:
            raise RuntimeError("odd <error>")

    handle = await bench.awaiting()
    panel = ApprovalPanel(Broken(bench.run(handle), nothing))
    await looked(panel)
    assert await asyncio.to_thread(panel.approve, "ann") == "Not taken. odd <error>"
    assert buttons(panel) == [True, True]
    assert "<error>" not in panel._said.value
    panel.close()
    await handle.terminate()


class Still:
    """A run for the words alone."""

    id, url = "mlops-<x>", "http://ui/'x'"


def status(**changes: Any) -> Status:
    return Status(
        "mlops-x", "data/raw/good.csv", quality_metrics=QualityMetrics(0.84, 2.6, 0.4), **changes
    )


def test_figures_that_fall_short_say_so(home: Path) -> None:
    shown = facts(Still(), status())  # type: ignore[arg-type]
    assert shown.count("falls short") == 3 and shown.count("passes") == 1
    assert "mlops-<x>" not in shown and "mlops-&lt;x&gt;" in shown and "ui/'x'" not in shown


@pytest.mark.parametrize("content", ["", "accuracy: [", "accuracy: high\n"])
def test_thresholds_that_cannot_be_read(home: Path, content: str) -> None:
    (home / "config" / "quality_gate.yml").write_text(content)
    assert "The thresholds cannot be read" in facts(Still(), status())  # type: ignore[arg-type]


def test_a_nameless_signal_in_words() -> None:
    decided = status(decision=Decision(True, at="2026-01-02T03:04:05.6+00:00"))
    assert state(View(decided, "completed")).startswith(
        "Approved by somebody without a name at 2026-01-02 03:04:05 UTC. The run is over: completed"
    )


async def test_a_server_that_is_down_is_said(home: Path) -> None:
    class Down(Still):
        def task(self, make: Callable[[], Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(make(), asyncio.get_running_loop())

        async def look(self) -> View:
            raise LabError("The Temporal server does not answer.")

    panel = ApprovalPanel(Down())  # type: ignore[arg-type]
    await looked(panel)
    assert words(panel, "state") == (
        "No answer; the panel looks again. The Temporal server does not answer."
    )
    assert buttons(panel) == [False, False]
    panel.close()


async def test_a_look_that_comes_late_is_not_shown(bench: Bench) -> None:
    """What was seen before a decision never stands over what was seen after it."""
    handle = await bench.awaiting()
    run, held = bench.run(handle), asyncio.Event()
    slow = Slow(run, nothing)
    panel = ApprovalPanel(slow)
    await looked(panel)

    async def late() -> View:
        view = await run.look()
        await held.wait()
        return view

    slow.look = late
    await asyncio.sleep(2 * approval.LOOK_SECONDS)  # this look saw that the run waits
    slow.look = run.look
    assert await asyncio.to_thread(panel.approve, "ann") == "Taken."
    held.set()
    await asyncio.sleep(0.05)
    assert words(panel, "state").startswith("Approved by ann")
    panel.close()

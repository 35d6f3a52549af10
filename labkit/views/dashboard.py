"""The whole workshop on one page: drop files, follow runs, decide, break things and mend them.

Two tasks on the lab's loop keep the page up to date. One reads the list of runs and the state of
the servers, the other the run that is shown. Whatever the page shows is changed on that loop, one
thing after the other; a press only schedules. Widgets send only what has changed.
"""

import asyncio
import html
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from ipywidgets import HTML, Box, Button, VBox

from labkit.ask import runs
from labkit.ask.serving import ENVIRONMENTS, rollback, serving
from labkit.ask.view import View
from labkit.core.settings import MAX_BYTES, LabError, paths
from labkit.pipeline.messages import Decision
from labkit.views.acts import Together, acts_on
from labkit.views.approval import ApprovalPanel
from labkit.views.board import Board
from labkit.views.breaks import Breaks
from labkit.views.buttons import own
from labkit.views.figures import figures_table
from labkit.views.live import leave, show_widget, watched
from labkit.views.logs import Logs
from labkit.views.needs import Lab, Shown
from labkit.views.runlist import RunList
from labkit.views.strip import as_strip, progress_bar
from labkit.views.uploads import Uploads, alert
from labkit.views.visitor import TakeOver, asked_for, name_field

TICK_SECONDS = 0.5
CALL_SECONDS = 60
STYLE = Path(__file__).with_name("dashboard.css")
CLOSED = "This dashboard is closed. Run its cell again to open it."
NO_SERVER = (
    "The Temporal server does not answer, so nothing below is up to date. Start it with the "
    "button at the bottom, or with: python -m labkit start temporal"
)


class Dashboard:
    """The page, and each of its buttons as a plain call.

    Args:
        start: starts the lab, or returns the one that runs: ``Lab.start``. A page that is opened
            takes nothing over from a lab that is on duty; it has a button for that.
    """

    _current: ClassVar["Dashboard | None"] = None

    def __init__(self, start: Callable[..., Lab]) -> None:
        if Dashboard._current:
            Dashboard._current.close()
        Dashboard._current = self
        self._start = start
        self.lab: Lab | None = None
        self.run: Shown | None = None
        self.rows: list[runs.Row] = []
        self._tasks: dict[str, Future[Any]] = {}
        self._closed, self._display = False, ""
        self._served: list[int] | None = None
        self._drawn: tuple[Any, float] = (None, 0.0)
        self._panel: ApprovalPanel | None = None
        self._build()
        self._open()

    def show(self) -> None:
        """Display the page below the cell."""
        calls = "" if watched() else "dashboard.drop_sample('good.csv'), dashboard.stop(…), …"
        self._display = show_widget(self.widget, {"text/plain": CLOSED}, self.close, calls)

    def close(self) -> None:
        """Stop the updates, and put back whatever a button has changed. Harmless twice."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        self._close_panel()
        if self.lab:
            self.lab.scenarios.put_back()
        self._problem.value = alert(CLOSED)
        leave(self._display, {"text/plain": CLOSED})

    # ---- what the buttons do

    def upload(self, name: str, content: bytes) -> str:
        """Write a CSV into ``data/raw``, wait until its run has started, and show it.

        Raises:
            LabError: the name or the size cannot be used, or no run started; says why.
        """
        if len(content) > MAX_BYTES:
            raise LabError(f"{name} is larger than {MAX_BYTES // 2**20} MiB. Use a smaller file.")
        return self._follow(self._running_lab().drop(name, content))

    def drop_sample(self, name: str) -> str:
        """The same with the lab's own sample: ``good.csv`` trains well, ``bad.csv`` does not."""
        return self._follow(self._running_lab().drop(name))

    def select(self, id: str) -> None:
        """Show the run with this workflow id."""
        self._now(lambda: self._select(id))

    def filter(self, status: str = "all", text: str = "") -> None:
        """List only runs of a status (one of ``runs.FILTERS``) whose id holds a text."""
        self._list.status.value, self._list.text.value = status, text
        self._now(self._show_rows)

    def approve(self, by: str, reason: str = "") -> str:
        """Approve the run that is shown, in its panel; returns what the panel says.

        Raises:
            LabError: the run that is shown does not ask for approval.
        """
        return self._decision().approve(by, reason)

    def reject(self, by: str, reason: str) -> str:
        """Reject it. Raises as :meth:`approve` does."""
        return self._decision().reject(by, reason)

    def __getattr__(self, name: str) -> Any:
        """``stop``, ``start``, ``inject``, ``wrong_password`` and what else the lab can break."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._running_lab().scenarios, name)

    def encrypt(self, encrypted: bool = True) -> str:
        """Go on with an encrypted worker, or with a plain one; this lab is on duty then."""
        self._running_lab().restart(encrypted)
        return f"The worker is {_kind(encrypted)} now."

    def tick(self) -> None:
        """Read the list of runs and the servers once, and show what changed."""
        self._now(self._tick)

    def rollback(self, environment: str, by: str, reason: str) -> str:
        """Put the model before back into service; returns what serves now.

        Raises:
            LabError: there is none before it, or nobody says who or why.
        """
        lab = self._running_lab()
        now = lab.task(lambda: lab.ask(lambda it: rollback(it, environment, by, reason)))
        return f"{environment} serves {now.result(CALL_SECONDS)} again."

    # ---- keeping the page up to date, on the lab's loop

    async def _watch(self) -> None:
        while True:
            try:
                await self._tick()
            except Exception as err:
                self._problem.value = alert(str(err))
            await asyncio.sleep(TICK_SECONDS)

    async def _tick(self) -> None:
        lab = self._running_lab()
        states = await asyncio.wrap_future(lab.aside(lab.scenarios.states))
        states["worker"] = lab.relieved_by or _kind(lab.encrypted)
        self._breaks.show(states)
        self._duty.show(lab.relieved_by)
        self._uploads.age()
        if states["temporal"] != "running":
            raise LabError(NO_SERVER)
        self.rows = await lab.rows()
        if self.run is None and (first := asked_for() or next((it.id for it in self.rows), "")):
            await self._select(first)
        await self._show_rows()
        await self._show_what_serves()
        self._problem.value = ""

    async def _watch_run(self, run: Shown) -> None:
        """Read a run again and again; once it has ended, only when it was run again."""
        read = None
        while True:
            started = next((row.started for row in self.rows if row.id == run.id), None)
            if started is None or read != started:
                ended = await self._tick_run(run)
                read = started if ended else None
            await asyncio.sleep(TICK_SECONDS)

    async def _tick_run(self, run: Shown) -> bool:
        """Read a run and show it; True when it has ended, and all of it is shown."""
        try:
            view = await run.look()
            await self._show_run(run, view)
            self._run_problem.value = ""
        except Exception as err:
            self._run_problem.value = alert(str(err)) if not self._problem.value else ""
            return False
        return view.state != "running"

    async def _select(self, id: str) -> None:
        if self.run is None or self.run.id != id:
            self.run = run = self._running_lab().run(id)
            self._drawn = (None, 0.0)
            self._close_panel()
            for part in (self._progress, self._figures, self._picture, self._run_problem):
                part.value = ""
            self._title.value = f"<h2>{html.escape(id)}</h2>"
            self._acts.children = (acts_on(run, self._aside),)
            if watching := self._tasks.get("run"):
                watching.cancel()
            self._tasks["run"] = self._running_lab().task(lambda: self._watch_run(run))
        await self._show_rows()

    async def _show_rows(self) -> None:
        self._list.show(self.rows, self.run.id if self.run else "")
        self._together.show(self.rows)

    async def _show_what_serves(self) -> None:
        """Read it again when a model came or went, and while PostgreSQL does not answer."""
        folders = [paths().deployments / name for name in ENVIRONMENTS]
        seen = [folder.stat().st_mtime_ns for folder in folders if folder.exists()]
        if seen != self._served:
            rows = await asyncio.wrap_future(self._aside(serving))
            self._board.show(rows)
            self._served = None if any(row.model and row.remark for row in rows) else seen

    async def _show_run(self, run: Shown, view: View) -> None:
        link = f"<a href='{html.escape(run.url)}' target='_blank'>Open in the Temporal Web UI</a>"
        here = f"<a href='?run={quote(run.id)}'>Link to this run</a>"
        self._title.value = f"<h2>{html.escape(run.id)}</h2><p>{link} · {here}</p>"
        self._progress.value = progress_bar(view) + as_strip(view)
        if view.status.awaiting_approval and self._panel is None:
            self._panel = ApprovalPanel(run, self._by.value)
            self._panel_place.children = (self._panel.widget,)
        status = view.status
        metrics = None if self._panel else status.quality_metrics
        self._figures.value = f"<h3>Figures</h3>{figures_table(metrics)}" if metrics else ""
        attempt = (view.attempt, view.next_attempt_seconds is None)
        step = (len(status.completed_steps), status.current_step, status.awaiting_approval)
        seen, (before, at) = (view.state, view.held, attempt, step), self._drawn
        # While a bar grows, the picture is drawn again each time that it lasted a fifth longer.
        if seen != before or (view.state == "running" and time.monotonic() > at):
            began = time.monotonic()
            self._picture.value = await run.picture()
            age = next((r.started for r in self.rows if r.id == run.id), datetime.now(UTC))
            seconds = (datetime.now(UTC) - age).total_seconds()
            self._drawn = (seen, began + max(3.0, seconds / 5))

    # ---- the parts of the page

    def _build(self) -> None:
        self._problem, self._title, self._progress = (HTML() for _ in range(3))
        self._figures, self._picture, self._run_problem = (HTML() for _ in range(3))
        self._panel_place, self._breaks_place = VBox(), VBox()
        self._again = Button(description="Try again", layout={"display": "none"})
        self._again.on_click(lambda _: self._open())
        again = lambda: self._soon(self._show_rows)  # noqa: E731
        self._list = RunList(lambda id: self._soon(lambda: self._select(id)), again)
        self._by = name_field()
        samples = {
            "Drop a good sample": lambda: self.drop_sample("good.csv"),
            "Drop a bad sample": lambda: self.drop_sample("bad.csv"),
        }
        self._uploads = Uploads(self.upload, samples, self._aside)
        self._together = Together(self._decide, self._by, self._aside)
        self._board = Board(self.rollback, self._by, self._aside)
        self._duty = TakeOver(lambda: self._start(), self._aside)
        self._acts, self._banner, self._logs = VBox(), VBox(), Logs(self._aside)
        runs_ = VBox([self._list.widget, self._together.widget])
        left = VBox(
            [
                *(self._duty.widget, self._uploads.widget, self._by, runs_),
                *(self._board.widget, self._breaks_place),
            ]
        )
        left.add_class("labkit-left")
        self._breaks_place.add_class("labkit-breaks")
        shown = [self._title, self._run_problem, self._progress, self._acts, self._panel_place]
        right = VBox([*shown, self._figures, self._picture])
        self._title.value = "<h2>No run is shown</h2><p>Choose one from the list.</p>"
        columns = Box([left, right])
        columns.add_class("labkit-columns")
        style = HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
        top = [style, self._banner, self._problem, self._again]
        self.widget = own(VBox([*top, columns]))
        self.widget.add_class("labkit-dashboard")

    def _open(self) -> None:
        """Start the lab. If that fails, the page says why, and lets you try again."""
        try:
            self.lab = lab = self._start(take_over=False)
        except Exception as err:
            self._problem.value, self._again.layout.display = alert(str(err)), ""
            return
        self._problem.value, self._again.layout.display = "", "none"
        self._breaks = Breaks(lab.scenarios, self.encrypt, self._aside)
        self._breaks_place.children = (self._breaks.widget, self._logs.widget)
        self._banner.children = (self._breaks.banner,)
        lab.at_stop.callback(self.close)
        self._tasks["list"] = lab.task(self._watch)

    def _decide(self, id: str, approved: bool, by: str, reason: str) -> None:
        run, decision = self._running_lab().run(id), Decision(approved, by, reason)
        run.task(lambda: run.decide(decision)).result(CALL_SECONDS)

    def _close_panel(self) -> None:
        if self._panel is not None:
            panel, self._panel = self._panel, None
            self._panel_place.children = ()
            panel.close()

    def _decision(self) -> ApprovalPanel:
        if run := self.run:
            self._now(lambda: self._tick_run(run))
        if self._panel is None:
            raise LabError("No run is shown that asks for approval. Choose one from the list.")
        return self._panel

    def _running_lab(self) -> Lab:
        if self.lab is None:
            raise LabError("The lab is not started. Press Try again.")
        return self.lab

    def _aside(self, work: Callable[[], Any]) -> "Future[Any]":
        return self._running_lab().aside(work)

    def _soon(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something on the loop; without a lab there is nothing to do."""
        with suppress(LabError):
            self._running_lab().task(make)

    def _now(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Do something on the loop, and wait for it. For any other thread."""
        self._running_lab().task(make).result(CALL_SECONDS)

    def _follow(self, run: Shown) -> str:
        self.select(run.id)
        return f"Started {run.id}."


def _kind(encrypted: bool) -> str:
    return "encrypted" if encrypted else "plain"

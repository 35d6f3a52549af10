"""The whole workshop on one page: drop files, follow runs, decide, break things and mend them.

Two threads keep the page up to date. One reads the list of runs and the state of the servers, the
other the run that is shown. Widgets send only what has changed, so the page does not flicker.
"""

import html
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ipywidgets
from ipywidgets import HTML, Box, Button, HBox, VBox

from labkit import faults, services
from labkit.ask import runs
from labkit.ask.client import address
from labkit.ask.look import View
from labkit.core.ports import accepts
from labkit.core.settings import MAX_BYTES, LabError
from labkit.pipeline.messages import STEPS
from labkit.views.approval import ApprovalPanel, figures_table
from labkit.views.buttons import row_of_buttons, say
from labkit.views.progress import as_html, show_widget

if TYPE_CHECKING:
    from labkit.lab import Lab
    from labkit.run import Run

TICK_SECONDS = 0.5
THREAD = "labkit-dashboard"
ROWS = 8
SERVERS = {"postgres": "PostgreSQL", "temporal": "Temporal", "models": "model servers"}
HOW_OFTEN = {"every time": 0, "once": 1, "twice": 2, "three times": 3}
STYLE = Path(__file__).with_name("dashboard.css")


class Dashboard:
    """The page, and each of its buttons as a plain call.

    Args:
        start: starts the lab, or returns the one that runs: ``Lab.start``.
    """

    _current: ClassVar["Dashboard | None"] = None

    def __init__(self, start: "Callable[[], Lab]") -> None:
        if Dashboard._current:
            Dashboard._current.close()
        Dashboard._current = self
        self._start = start
        self.lab: Lab | None = None
        self.run: Run | None = None
        self.rows: list[runs.Row] = []
        self._first = 0
        self._page_of_rows: list[runs.Row] = []
        self._changed: dict[str, AbstractContextManager[None]] = {}
        self._stopped: set[str] = set()
        self._ended, self._wake, self._restarting = (threading.Event() for _ in range(3))
        # One look at the run at a time; what is shown of it, or of the list, changes as a whole.
        self._reading, self._showing, self._listing = (threading.RLock() for _ in range(3))
        self._final: tuple[Any, ...] = ()
        self._drawn: tuple[tuple[Any, ...], float] = ((), 0.0)
        self._panel: ApprovalPanel | None = None
        self._build()
        self._open()
        for tick in (self.tick, self.tick_run):
            name = f"{THREAD}-{tick.__name__}"
            threading.Thread(target=self._repeat, args=(tick,), name=name, daemon=True).start()

    def show(self) -> None:
        """Display the page below the cell."""
        show_widget(self.widget)

    def close(self) -> None:
        """Stop the updates, and put back whatever a button has changed. Harmless twice."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._wake.set()
        self._close_panel()
        for what in reversed(list(self._changed)):
            self._put_back(what)
        if self._stopped:
            services.start(*self._stopped)
        self._problem.value = _alert("This dashboard is closed. Run its cell again to open it.")

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
        with self._showing:
            if self.run is None or self.run.id != id:
                self.run = self._running_lab().run(id)
                self._final, self._drawn = (), ((), 0.0)
                self._close_panel()
                for part in (self._progress, self._figures, self._picture, self._run_problem):
                    part.value = ""
                self._title.value = f"<h2>{html.escape(id)}</h2>"
        self._show_rows()
        self._wake.set()

    def filter(self, status: str = "all", text: str = "") -> None:
        """List only runs of a status (one of ``runs.FILTERS``) whose id holds a text."""
        self._status.value, self._text.value = status, text

    def turn(self, pages: int) -> None:
        """Go so many pages towards older runs; newer ones when it is negative."""
        self._first += pages * ROWS
        self._show_rows()

    def approve(self, by: str, reason: str = "") -> str:
        """Approve the run that is shown, in its panel; returns what the panel says.

        Raises:
            LabError: the run that is shown does not ask for approval.
        """
        return self._decision().approve(by, reason)

    def reject(self, by: str, reason: str) -> str:
        """Reject it. Raises as :meth:`approve` does."""
        return self._decision().reject(by, reason)

    def stop(self, server: str) -> str:
        """Really stop ``postgres``, ``temporal`` or ``models``."""
        services.stop(server)
        self._stopped.add(server)
        return f"{SERVERS[server]} stopped."

    def start(self, server: str) -> str:
        """Start it again, at the same address."""
        services.start(server)
        self._stopped.discard(server)
        return f"{SERVERS[server]} started."

    def inject(self, activity: str, times: int | None = None) -> str:
        """Make an activity fail, as ``lab.fault`` does, until :meth:`clear_fault`."""
        self._change("fault", faults.fault(activity, times))
        return f"{_fault_in_words()}."

    def clear_fault(self) -> str:
        """Clear the fault, whoever injected it."""
        self._put_back("fault")
        faults.clear()
        return "No activity fails on purpose."

    def wrong_password(self) -> str:
        """Give the pipeline a wrong password for PostgreSQL, as ``lab.env`` does."""
        self._change("password", faults.changed_env(POSTGRES_PASSWORD="wrong"))
        return "The pipeline's password is wrong now."

    def right_password(self) -> str:
        """Put the right password back."""
        self._put_back("password")
        return "The right password is back."

    def encrypt(self, encrypted: bool = True) -> str:
        """Go on with an encrypted worker, or with a plain one; this lab is on duty then."""
        self._restarting.set()
        try:
            self._running_lab().restart(encrypted)
        finally:
            self._restarting.clear()
        return f"The worker is {_kind(encrypted)} now."

    # ---- keeping the page up to date

    def tick(self) -> None:
        """Read the list of runs and the servers once, and show what changed."""
        for name, words in self._states().items():
            self._state[name].value = words
        if not accepts(address()):
            raise LabError(
                "The Temporal server does not answer, so nothing below is up to date. Start it "
                "with the button at the bottom, or with: python -m labkit start temporal"
            )
        self.rows = self._running_lab().rows()
        if self.run is None and self.rows:
            self.select(self.rows[0].id)
        self._show_rows()
        self._problem.value = ""

    def tick_run(self) -> None:
        """Read the run that is shown, unless it has ended and was read since."""
        with self._reading:
            run = self.run
            if run is None or not accepts(address()):
                return
            started = next((row.started for row in self.rows if row.id == run.id), None)
            if self._final == (run.id, started):
                return
            view = run.view()
            with self._showing:
                if run is not self.run:
                    return
                self._show_run(run, view)
                self._run_problem.value = ""
                if view.state != "running":
                    self._final = (run.id, started)

    def _repeat(self, tick: Callable[[], None]) -> None:
        """Tick until the dashboard is closed. What goes wrong is said on the page."""
        place = self._problem if tick == self.tick else self._run_problem
        while not self._ended.is_set():
            try:
                if self.lab and not self._restarting.is_set():
                    tick()
            except Exception as err:
                if not (self._restarting.is_set() or self._ended.is_set()):
                    place.value = _alert(str(err))
            if tick == self.tick:
                self._ended.wait(TICK_SECONDS)
            elif self._wake.wait(TICK_SECONDS):
                self._wake.clear()

    def _show_rows(self) -> None:
        """Fill the buttons of the list with the page of runs that is asked for."""
        with self._listing:
            found = [row for row in self.rows if row.matches(self._status.value, self._text.value)]
            self._first = max(0, min(self._first, (len(found) - 1) // ROWS * ROWS))
            self._page_of_rows = found[self._first : self._first + ROWS]
            now, chosen = datetime.now(UTC), self.run.id if self.run else ""
            for button, row in zip(self._buttons, self._page_of_rows, strict=False):
                button.description = _line(row, now, row.id == chosen)
                button.tooltip = row.id
                button._dom_classes = ("labkit-row", f"labkit-{row.status.split()[0]}")
            self._list.children = self._buttons[: len(self._page_of_rows)]
            last = self._first + len(self._page_of_rows)
            self._newer.disabled, self._older.disabled = self._first == 0, last == len(found)
            shown = (
                f"{self._first + 1} to {last} of {len(found)} shown" if found else "none to show"
            )
            self._summary.value = f"<p>{runs.summary(self.rows)}. {shown.capitalize()}.</p>"

    def _show_run(self, run: "Run", view: View) -> None:
        link = f"<a href='{html.escape(run.url)}' target='_blank'>Open in the Temporal Web UI</a>"
        self._title.value = f"<h2>{html.escape(run.id)}</h2><p>{link}</p>"
        self._progress.value = _progress_bar(view) + as_html(view)
        if view.status.awaiting_approval and self._panel is None:
            self._open_panel(run)
        status = view.status
        metrics = None if self._panel else status.quality_metrics
        self._figures.value = f"<h3>Figures</h3>{figures_table(metrics)}" if metrics else ""
        attempt = (view.attempt, view.next_attempt_seconds is None)
        step = (len(status.completed_steps), status.current_step, status.awaiting_approval)
        seen = (run.id, view.state, attempt, step)
        before, at = self._drawn
        # While a bar grows, the picture is drawn again each time that it lasted a fifth longer.
        if seen != before or (view.state == "running" and time.monotonic() > at):
            began = time.monotonic()
            self._picture.value = run.picture()
            age = next((r.started for r in self.rows if r.id == run.id), datetime.now(UTC))
            seconds = (datetime.now(UTC) - age).total_seconds()
            self._drawn = (seen, began + max(3.0, seconds / 5))

    def _states(self) -> dict[str, str]:
        """What the buttons at the bottom can change, as it is now, in words."""
        found = services.status()
        states = {}
        for name in SERVERS:
            server = found.get("dev" if name == "models" else name)
            running = server["running"] if server else accepts(address())
            states[name] = "running" if running else "stopped"
        states["password"] = "wrong" if "password" in self._changed else "right"
        states["fault"] = _fault_in_words()
        lab = self.lab
        relieved = lab.relieved_by if lab else "not started"
        states["worker"] = relieved or _kind(lab is not None and lab.encrypted)
        return {name: _state(name, words) for name, words in states.items()}

    # ---- the parts of the page

    def _build(self) -> None:
        self._problem, self._summary, self._title, self._progress = (HTML() for _ in range(4))
        self._figures, self._picture, self._run_problem = (HTML() for _ in range(3))
        self._panel_place = VBox()
        self._again = Button(description="Try again", layout={"display": "none"})
        self._again.on_click(lambda _: self._open())
        self._state = {name: HTML() for name in (*SERVERS, "password", "fault", "worker")}
        left = VBox([self._build_start(), self._build_list(), self._build_scenarios()])
        left.add_class("labkit-left")
        shown = [self._title, self._run_problem, self._progress, self._panel_place]
        right = VBox([*shown, self._figures, self._picture])
        self._title.value = "<h2>No run is shown</h2><p>Choose one from the list.</p>"
        columns = Box([left, right])
        columns.add_class("labkit-columns")
        style = HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
        self.widget = VBox([style, self._problem, self._again, columns])
        self.widget.add_class("labkit-dashboard")

    def _build_start(self) -> VBox:
        self._upload = ipywidgets.FileUpload(
            description="Upload a CSV", accept=".csv", layout={"width": "max-content"}
        )
        self._upload.observe(self._uploaded, "value")
        self._upload_said = HTML(f"A CSV of at most {MAX_BYTES // 2**20} MiB.")
        samples = row_of_buttons(
            "",
            {
                "Drop a good sample": lambda: self.drop_sample("good.csv"),
                "Drop a bad sample": lambda: self.drop_sample("bad.csv"),
            },
            background=True,
        )
        return VBox(
            [HTML("<h2>Start a run</h2>"), HBox([self._upload, samples]), self._upload_said]
        )

    def _build_list(self) -> VBox:
        self._status = ipywidgets.Dropdown(description="Status", options=runs.FILTERS)
        self._text = ipywidgets.Text(description="Name", placeholder="part of it")
        for control in (self._status, self._text):
            control.observe(lambda _: self._show_rows(), "value")
        self._buttons = tuple(Button() for _ in range(ROWS))
        for number, button in enumerate(self._buttons):
            button.on_click(lambda _, n=number: self.select(self._page_of_rows[n].id))
        self._list = VBox()
        self._newer, self._older = Button(description="Newer"), Button(description="Older")
        self._newer.on_click(lambda _: self.turn(-1))
        self._older.on_click(lambda _: self.turn(1))
        return VBox(
            [
                HTML("<h2>Runs</h2>"),
                HBox([self._status, self._text]),
                self._summary,
                self._list,
                HBox([self._newer, self._older]),
            ]
        )

    def _build_scenarios(self) -> VBox:
        activity = ipywidgets.Dropdown(description="Activity", options=list(faults.FAULTS))
        activity.value = "training"
        times = ipywidgets.Dropdown(description="Fails", options=HOW_OFTEN)
        rows: dict[str, dict[str, Callable[[], Any]]] = {
            server: {
                f"Stop {word}": lambda s=server: self.stop(s),  # type: ignore[misc]
                f"Start {word}": lambda s=server: self.start(s),  # type: ignore[misc]
            }
            for server, word in SERVERS.items()
        }
        rows["password"] = {
            "Wrong password": self.wrong_password,
            "Right password": self.right_password,
        }
        rows["worker"] = {
            "Encrypted worker": lambda: self.encrypt(True),
            "Plain worker": lambda: self.encrypt(False),
        }
        rows["fault"] = {
            "Inject fault": lambda: self.inject(activity.value, times.value or None),
            "Clear fault": self.clear_fault,
        }
        lines = [
            VBox([self._state[name], row_of_buttons("", actions, background=True)])
            for name, actions in rows.items()
        ]
        lines[-1].children = (
            lines[-1].children[0],
            HBox([activity, times]),
            *lines[-1].children[1:],
        )
        grid = Box(lines)
        grid.add_class("labkit-scenarios")
        box = VBox([HTML("<h2>Break things, and mend them</h2>"), grid])
        box.add_class("labkit-breaks")
        return box

    def _uploaded(self, change: dict[str, Any]) -> None:
        if change["new"]:
            threading.Thread(target=self._take, args=(change["new"],), daemon=True).start()

    def _take(self, files: Any) -> None:
        """See uploaded files through, and say how it went."""
        for file in files:
            name, content = file["name"], bytes(file["content"])
            size = f"{len(content) / 1000:,.0f} kB"
            say(self._upload_said, f"{name}, {size}: starting its run …")
            self._upload_said.value += "<progress aria-label='Upload under way'></progress>"
            try:
                say(self._upload_said, self.upload(name, content))
            except Exception as err:
                self._upload_said.value = _alert(str(err))
        self._upload.value = ()

    def _open(self) -> None:
        """Start the lab. If that fails, the page says why, and lets you try again."""
        try:
            self.lab = self._start()
            self.lab.at_stop.callback(self.close)
            self._problem.value, self._again.layout.display = "", "none"
        except Exception as err:
            self._problem.value, self._again.layout.display = _alert(str(err)), ""

    def _open_panel(self, run: "Run") -> None:
        self._panel = ApprovalPanel(run)
        self._panel_place.children = (self._panel.widget,)

    def _close_panel(self) -> None:
        if self._panel is not None:
            panel, self._panel = self._panel, None
            self._panel_place.children = ()
            panel.close()

    def _decision(self) -> ApprovalPanel:
        self.tick_run()
        if self._panel is None:
            raise LabError("No run is shown that asks for approval. Choose one from the list.")
        return self._panel

    def _running_lab(self) -> "Lab":
        if self.lab is None:
            raise LabError("The lab is not started. Press Try again.")
        return self.lab

    def _follow(self, run: "Run") -> str:
        self.select(run.id)
        return f"Started {run.id}."

    def _change(self, what: str, change: AbstractContextManager[None]) -> None:
        """Enter a change that undoes itself, in place of an earlier one of the same thing."""
        self._put_back(what)
        change.__enter__()
        self._changed[what] = change

    def _put_back(self, what: str) -> None:
        if change := self._changed.pop(what, None):
            change.__exit__(None, None, None)


def _line(row: runs.Row, now: datetime, chosen: bool) -> str:
    """One run on one line, in columns of fixed width."""
    name = row.name if len(row.name) <= 22 else row.name[:21] + "…"
    mark = "▸" if chosen else " "
    return f"{mark} {name:<22} {row.words:<34} {runs.age(row.started, now):>6}"


def _progress_bar(view: View) -> str:
    done, all_ = len(view.status.completed_steps), len(STEPS) - 1
    return (
        f"<progress max='{all_}' value='{done}' "
        f"aria-label='Steps done'></progress> {done} of {all_} steps done"
    )


def _fault_in_words() -> str:
    fault = faults.read_fault()
    if fault is None:
        return "none"
    often = next((words for words, times in HOW_OFTEN.items() if times == (fault.times or 0)), None)
    return f"{fault.activity} fails {often or f'{fault.times} times'}"


def _kind(encrypted: bool) -> str:
    return "encrypted" if encrypted else "plain"


def _state(name: str, words: str) -> str:
    title = SERVERS.get(name, name)
    return f"<strong>{title[0].upper()}{title[1:]}:</strong> {html.escape(words)}"


def _alert(text: str) -> str:
    return f"<div role='alert' class='labkit-problem'>{html.escape(text)}</div>" if text else ""

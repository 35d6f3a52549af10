"""Exercises whose checks run code: named cases, three outcomes, hints one by one.

The ``check.py`` of an exercise::

    exercise = Exercise(
        task="Write an activity, and a workflow that calls it.",
        hints=["…", "…"],
    )

    @exercise.shared                     # once a check, however many cases ask for it
    def ada(mine): return try_out(mine.Hello, "Ada", activities=[mine.hello]).ended()

    @exercise.case("answers Hello, Ada!")
    def _(mine):                         # mine: the module that the participant's cell is
        expect(ada(mine).result, "Hello, Ada!")     # returns: right; raises: not yet right
"""

import ast
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from labkit.bench import record
from labkit.bench.cells import Mine
from labkit.bench.record import NOT_ATTEMPTED, NOT_YET, RIGHT
from labkit.bench.words import Off, quoted
from labkit.core.paths import LabError

Case = Callable[[ModuleType], Any]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Exercise:
    """One exercise of a notebook.

    Args:
        task: what to do, in a sentence or two.
        hints: at least two, from a push to nearly the answer.
        right: what there is to learn, shown with the right answer.
        seconds: the longest that a case may take.
    """

    def __init__(
        self, task: str, hints: Sequence[str], right: str = "", seconds: float = 20
    ) -> None:
        self.task, self.hints, self.right, self.seconds = task, list(hints), right, seconds
        self.cases: list[tuple[str, Case]] = []
        self.outcome = ""
        self._shared: dict[Case, tuple[Any, BaseException | None]] = {}
        self._reported: BaseException | None = None

    def place(self, folder: Path, modules: Mine) -> None:
        """Say where its files are, and where the participant's cells are kept."""
        self.folder, self.modules = folder, modules
        self.key, self.name = folder.name, folder.name[3:]

    def case(self, name: str) -> Callable[[Case], Case]:
        """Add a case: a function of the participant's module."""

        def add(function: Case) -> Case:
            self.cases.append((name, function))
            return function

        return add

    def shared(self, function: Case) -> Case:
        """Run a function once a check; each case that asks gets the same answer or error."""

        def once(mine: ModuleType) -> Any:
            if once not in self._shared:
                try:
                    self._shared[once] = function(mine), None
                except (Exception, Late) as err:
                    self._shared[once] = None, err
            answer, error = self._shared[once]
            if error:
                raise error
            return answer

        return once

    def text(self, name: str) -> str:
        """The text of ``stub``, ``solution`` or ``wrong_1``."""
        return (self.folder / f"{name}.py").read_text(encoding="utf-8")

    def check(self) -> None:
        """Try each case, and say how it went. The outcome is kept."""
        self._shared.clear()
        self._reported, passed = None, []
        if todo := self._not_attempted():
            print(f"Not attempted yet: {todo}")
            self._keep(NOT_ATTEMPTED, [])
            return
        if mine := self._module():
            passed = [name for name, function in self.cases if self._passes(name, function, mine)]
        if len(passed) == len(self.cases):
            print(f"Right. {self.right}".rstrip())
            self._keep(RIGHT, passed)
        else:
            print(f"Not yet right: {len(passed)} of {len(self.cases)} cases pass.")
            self._keep(NOT_YET, passed)

    def hint(self) -> None:
        """One more hint at each call."""

        def one_more(entry: record.Entry) -> None:
            entry["hints"] = min(entry.get("hints", 0) + 1, len(self.hints))

        number = record.change(self.key, one_more)["hints"]
        print(f"Hint {number} of {len(self.hints)}: {self.hints[number - 1]}")

    def solution(self) -> None:
        """One right answer, as a cell that can be pasted."""
        record.change(self.key, lambda entry: entry.update(solution_seen=True))
        print(f"%%mine {self.name}\n{self.text('solution').rstrip()}")

    def stub(self) -> None:
        """The cell as it was at first."""
        print(f"%%mine {self.name}\n{self.text('stub').rstrip()}")

    def __repr__(self) -> str:
        return f"{self.name}: {self.task}"

    def _not_attempted(self) -> str:
        """What to do first; empty when there is an answer. No line of it is run."""
        path = self.modules.path(self.name)
        if not path.exists():
            return f"run the cell that begins with %%mine {self.name}, then this one."
        if is_untouched(path.read_text(encoding="utf-8"), self.text("stub")):
            return f"change the cell that begins with %%mine {self.name}, run it, then this one."
        return ""

    def _module(self) -> ModuleType | None:
        """The participant's module; None when it cannot be used, and then it has said why."""
        try:
            mine = self.modules.current(self.name)
        except LabError as err:
            print(f"  ✗  {err}")
            return None
        except (Exception, SystemExit) as err:
            print(f"  ✗  {self.name}.py fails when it is imported: {quoted(err)}")
            return None
        missing = [name for name in top_names(self.text("stub")) if not hasattr(mine, name)]
        if missing:
            print(f"  ✗  the cell defines no {' and no '.join(missing)}")
            return None
        return mine

    def _passes(self, name: str, function: Case, mine: ModuleType) -> bool:
        try:
            with within(self.seconds):
                function(mine)
        except LabError:  # the lab's own trouble, and no answer
            raise
        except Late:
            print(f"  ✗  {name}: your code had not returned after {self.seconds:g} s")
        except (Exception, SystemExit) as err:
            same = err is self._reported
            self._reported = err
            said = "as above" if same else str(err) if isinstance(err, Off) else quoted(err)
            print(f"  ✗  {name}: {said}")
        else:
            print(f"  ✓  {name}")
            return True
        return False

    def _keep(self, outcome: str, passed: list[str]) -> None:
        def note(entry: record.Entry) -> None:
            entry["tries"] = entry.get("tries", 0) + (outcome != NOT_ATTEMPTED)
            rank = [NOT_ATTEMPTED, NOT_YET, RIGHT]
            entry["outcome"] = max(outcome, entry.get("outcome", NOT_ATTEMPTED), key=rank.index)
            entry.update(passed=passed, when=datetime.now(UTC).isoformat())

        self.outcome = outcome
        record.change(self.key, note)


def expect(got: Any, wanted: Any, hint: str = "") -> None:
    """Compare an answer with the right one, kind and all: True is not 1, and "1" is not 1.

    Raises:
        Off: it says what was expected and what came instead.
    """
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (got, wanted))
    alike = isinstance(got, type(wanted)) and isinstance(got, bool) is isinstance(wanted, bool)
    if not (numbers or alike):
        raise Off(_said(f"expected {short(wanted)}, got {short(got)}{_kind(got)}", hint))
    if got != wanted:
        raise Off(_said(f"expected {short(wanted)}, got {short(got)}", hint))


def require(condition: Any, sentence: str) -> None:
    """Raises :class:`Off` with the sentence, unless the condition holds."""
    if not condition:
        raise Off(sentence)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:150]} …"


def _kind(value: Any) -> str:
    return ": does it return something?" if value is None else f", a {type(value).__name__}"


def _said(sentence: str, hint: str) -> str:
    return f"{sentence}: {hint}" if hint else sentence


class Late(BaseException):
    """A case took too long. Not an Exception, so that participants' code cannot catch it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt the block after so many seconds, where the system can (not on Windows).

    Raises:
        Late: the time is up.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise Late

    handler = signal.signal(signal.SIGALRM, ring)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left)  # another's alarm comes a little later


def is_untouched(text: str, stub: str) -> bool:
    """Whether an answer is the stub still: the same code, or each gap still a gap."""
    try:
        answer, begun = ast.parse(text), ast.parse(stub)
    except (SyntaxError, ValueError):
        return False
    gaps = _gaps(begun)
    return (bool(gaps) and gaps <= _gaps(answer)) or _code(answer) == _code(begun)


def _code(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = _without_docstring(node.body)
    return ast.dump(tree)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if said and isinstance(first.value.value, str) else body  # type: ignore


def _gaps(tree: ast.Module) -> set[str]:
    """The functions that do nothing yet: their body is ``...`` or ``pass``."""
    found = [node for node in ast.walk(tree) if isinstance(node, Function)]
    return {node.name for node in found if all(map(_is_gap, _without_docstring(node.body)))}


def _is_gap(statement: ast.stmt) -> bool:
    dots = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or dots


def top_names(text: str) -> list[str]:
    """What a module defines at its top: functions, classes, and values that are no constants."""
    names: list[str] = []
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.isupper()]

"""``%%mine hello``: the cell is the file ``notebooks/mine/<notebook>/hello.py``, imported afresh.

So the sandbox can check a workflow that is written in a cell, a worker process can import it, and
nothing differs from a project of one's own: another cell says ``from hello import say_hello``.
"""

import builtins
import importlib
import importlib.util
import keyword
import linecache
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from IPython.core.getipython import get_ipython
from IPython.core.magic import Magics, cell_magic, magics_class

from labkit.bench.words import is_participants
from labkit.core.paths import LabError, paths

T = TypeVar("T")

_open: dict[str, "Mine"] = {}  # by the notebook's name and the lab's root


def notebook_name(default: str) -> str:
    """The notebook's file name without its suffix, as far as anybody tells the kernel.

    JupyterLab, Notebook 7 and Voila set JPY_SESSION_NAME, VS Code ``__vsc_ipynb_file__``; nbclient,
    nbval and a terminal set neither, and then it is the default.
    """
    shell = get_ipython()
    told = (shell.user_ns.get("__vsc_ipynb_file__") if shell else None) or os.environ.get(
        "JPY_SESSION_NAME", ""
    )
    # A console's session has a name too, such as "console-1-<uuid>", and no suffix.
    return Path(told).stem if str(told).endswith(".ipynb") else default


def open_mine(default: str) -> "Mine":
    """The modules of this kernel's notebook; the same ones at each call."""
    name = re.sub(r"[^\w.-]", "_", notebook_name(default))
    key = f"{paths().root}:{name}"
    if key not in _open:
        _open[key] = Mine(*_own_folder(paths().root / "notebooks" / "mine", name))
    return _open[key]


def _own_folder(root: Path, name: str) -> tuple[Path, FileLock]:
    """A second kernel of the same notebook gets a folder of its own, and says so."""
    for number in range(1, 100):
        folder = root / (name if number == 1 else f"{name}_{number}")
        lock = FileLock(folder / ".lock", thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as err:
            raise LabError(f"{folder} cannot be written: {err.strerror}.") from None
        if number > 1:
            print(
                f"Another kernel of this notebook is running. "
                f"The cells of this one are kept in {paths().name(folder)}."
            )
        return folder, lock
    raise LabError(f"A hundred kernels use {root / name}. Shut some of them down.")


def refresh() -> None:
    """Import again what was edited on disk since it was imported."""
    for mine in _open.values():
        mine.refresh()


def latest(thing: T) -> T:
    """A class or function of a cell as it is now, when it was imported again since."""
    name, module = thing.__qualname__, sys.modules.get(thing.__module__)  # type: ignore
    in_cell = is_participants(getattr(module, "__file__", None) or "")
    return getattr(module, name, thing) if in_cell else thing


class Mine:
    """The modules of one notebook's cells, in one folder."""

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock = folder, lock
        self._seen: dict[str, tuple[int, int]] = {}

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.py"

    def keep(self, name: str, cell: str) -> ModuleType:
        """Write a cell to its file and import it.

        Raises:
            LabError: the name is no name for a module, or the text is not Python; then the file
                stays as it was, because a worker may be reading it.
        """
        self._refuse(name)
        # In place of the magic's own line, so that a line has the same number here and there.
        text = f"# %%mine {name}\n{cell}"
        _must_compile(text, "this cell")
        try:
            _write(self.path(name), text)
        except OSError as err:
            raise LabError(f"{self.path(name)} cannot be written: {err.strerror}.") from None
        return self._load(name)

    def current(self, name: str) -> ModuleType | None:
        """The module as it is on disk now; None when there is no such file."""
        self.refresh()
        if not self.path(name).exists():
            return None
        return sys.modules[name] if self._has(name) else self._load(name)

    def refresh(self) -> None:
        for name, seen in list(self._seen.items()):
            path = self.path(name)
            if self._has(name) and path.exists() and _stamp(path) != seen:
                # An editor may have written the same size within the same second.
                Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
                self._load(name)

    def _has(self, name: str) -> bool:
        return getattr(sys.modules.get(name), "__file__", None) == str(self.path(name))

    def _load(self, name: str) -> ModuleType:
        """Import it afresh, and whatever imports it."""
        module = self._import(name)
        for other in self._dependents(name):
            self._import(other)
        return module

    def _import(self, name: str) -> ModuleType:
        path = self.path(name)
        self._lead_the_way()
        self._seen[name] = _stamp(path)
        _must_compile(path.read_text(encoding="utf-8"), path.name)
        linecache.checkcache(str(path))
        before = sys.modules.pop(name, None)
        try:
            module = importlib.import_module(name)
        except BaseException:
            if before is not None:
                sys.modules[name] = before
            raise
        if shell := get_ipython():
            public = {k: v for k, v in vars(module).items() if not k.startswith("_")}
            shell.user_ns.update(public)
        return module

    def _lead_the_way(self) -> None:
        """This folder alone is on the path, and last: it hides nothing."""
        others = [entry for entry in sys.path if not is_participants(f"{entry}/x.py")]
        sys.path[:] = [*others, str(self.folder)]
        importlib.invalidate_caches()

    def _dependents(self, name: str) -> Iterator[str]:
        """Modules of other cells that hold the former objects of this one, nearest first."""
        changed, loaded = {name}, [other for other in self._seen if self._has(other)]
        while new := [x for x in loaded if x not in changed and self._imports(x, changed)]:
            yield from new
            changed.update(new)

    def _imports(self, name: str, others: set[str]) -> bool:
        text = self.path(name).read_text(encoding="utf-8") if self.path(name).exists() else ""
        return bool(re.search(rf"^\s*(from|import) +({'|'.join(others)})\b", text, re.M))

    def _refuse(self, name: str) -> None:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise LabError(
                f"Name the file after %%mine, as in: %%mine hello "
                f"({name!r} cannot be the name of a module.)"
            )
        if name in sys.stdlib_module_names or name in vars(builtins) or self._is_taken(name):
            raise LabError(
                f"{name!r} is the name of something that Python has already. "
                f"Choose another, such as my_{name}."
            )

    def _is_taken(self, name: str) -> bool:
        known = sys.modules.get(name)
        if known is None:
            spec = importlib.util.find_spec(name)
            return spec is not None and not is_participants(spec.origin or "")
        return not is_participants(getattr(known, "__file__", None) or "")


@magics_class
class MineMagics(Magics):
    """The cell magic ``%%mine``."""

    def __init__(self, shell: Any, modules: Mine) -> None:
        super().__init__(shell)
        self.modules = modules

    @cell_magic
    def mine(self, line: str, cell: str) -> None:
        """``%%mine hello``: keep this cell as hello.py, import it, and show its names here."""
        try:
            self.modules.keep(line.strip(), cell)
        except LabError:
            raise
        except BaseException as err:
            own = _own_frames(err.__traceback__)
            render = get_ipython().InteractiveTB.structured_traceback  # type: ignore[union-attr]
            text = render(type(err), err, own, tb_offset=0)
            err._render_traceback_ = lambda: text  # type: ignore[attr-defined]
            raise


def register(modules: Mine) -> None:
    """Offer ``%%mine`` in this kernel; without one there is nothing to offer it to."""
    if shell := get_ipython():
        shell.register_magics(MineMagics(shell, modules))


def _must_compile(text: str, what: str) -> None:
    try:
        # Under a name that is no file, or Python would quote the file, and so the former text.
        compile(text, "<mine>", "exec")
    except (SyntaxError, ValueError) as err:
        # Not raised as a SyntaxError: IPython renders those in its own way.
        if not isinstance(err, SyntaxError):
            raise LabError(f"{what.capitalize()} cannot be read: {err}.") from None
        quoted = (err.text or "").rstrip()
        mark = " " * max(0, (err.offset or 1) - 1) + "^"
        raise LabError(
            f"Line {err.lineno} of {what} cannot be read: {err.msg}\n    {quoted}\n    {mark}"
        ) from None


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _write(path: Path, text: str) -> None:
    """Write at once, and never with the time of the former text.

    Python takes compiled code for fresh when the source's size and its whole second are the same:
    an edit of "3" into "4" within a second would keep the old code, in every process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = int(path.stat().st_mtime) if path.exists() else 0
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    moment = max(int(part.stat().st_mtime), before + 1)
    os.utime(part, (moment, moment))
    part.replace(path)


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the participant's first line on."""
    while trace and not is_participants(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace

"""Where everything lies, and the one kind of error that a participant can mend."""

import os
import sys
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class Sentence(BaseException):
    """An error whose message says all: a notebook shows that sentence, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class LabError(Sentence, Exception):
    """Something a participant can mend. The message says what is wrong and how to mend it."""


class Interrupted(Sentence, KeyboardInterrupt):
    """The interrupt button was pressed. The message says what goes on all the same."""


class Paths:
    """All folders and files, below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = root / ".env"
        self.config = root / "config"
        self.data = root / "data"
        self.raw, self.processed = self.data / "raw", self.data / "processed"
        self.models, self.deployments = self.data / "models", self.data / "deployments"
        self.lab = root / ".lab"
        self.logs, self.state = self.lab / "logs", self.lab / "state.json"
        # The committed sample, which ``Lab.drop`` copies when no other file is named.
        self.example = REPOSITORY / "data" / "examples" / "abalone.csv"

    def name(self, path: Path) -> str:
        """How messages name a file: relative to the root, so that they mean the same anywhere."""
        relative = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return relative.as_posix().encode("utf-8", "backslashreplace").decode()

    def find(self, name: str) -> Path:
        """The file that a message names: relative to the root, or absolute."""
        return self.root / name

    def make(self) -> None:
        """Create the folders that runs write to, and close ``.lab`` to other users."""
        for folder in (self.raw, self.processed, self.models, self.deployments, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            return
        # Where root starts PostgreSQL, its server's own user must pass. It may list nothing.
        modes = {self.lab: 0o711 if os.geteuid() == 0 else 0o700}
        modes |= {path: 0o700 if path.is_dir() else 0o600 for path in self.lab.iterdir()}
        for path, mode in modes.items():
            with suppress(OSError):  # a file system without modes, which the doctor names
                if path.lstat().st_uid == os.geteuid() and not path.is_symlink():
                    path.chmod(mode)


def paths() -> Paths:
    """Below ``LABKIT_HOME`` when it is set, else in the checkout.

    A relative one counts from the checkout, so that a notebook's kernel, which runs in another
    folder, means the same one.
    """
    return Paths((REPOSITORY / os.environ.get("LABKIT_HOME", "")).resolve())


def not_mine(path: Path) -> str:
    """What to say of a file that another user made, most often root."""
    return f"{path} belongs to another user. Mend: sudo chown -R $(id -un) {paths().root}"

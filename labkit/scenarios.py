"""What a lesson breaks, and how each is mended: what the dashboard's buttons do, in words."""

from contextlib import AbstractContextManager

from labkit import faults, services
from labkit.ask.client import address
from labkit.core import lesson
from labkit.core.ports import accepts
from labkit.core.settings import paths, settings

SERVERS = {"postgres": "PostgreSQL", "temporal": "Temporal", "models": "model servers"}
HOW_OFTEN = {"every time": 0, "once": 1, "twice": 2, "three times": 3}


class Scenarios:
    """Breaks things and mends them. Each call blocks, and says in words what it did.

    What was changed is put back by :meth:`put_back`, and at the latest when the lab stops.
    """

    FAULTS, SERVERS = tuple(faults.FAULTS), SERVERS

    def __init__(self) -> None:
        self._changed: dict[str, AbstractContextManager[None]] = {}
        self._stopped: set[str] = set()

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
        return f"{fault_in_words()}."

    def clear_fault(self) -> str:
        """Clear the fault, whoever injected it."""
        self._mend("fault")
        faults.clear()
        return "No activity fails on purpose."

    def wrong_password(self) -> str:
        """Give the pipeline a wrong password for PostgreSQL."""
        self._change("password", faults.changed_env(POSTGRES_PASSWORD="wrong"))
        return "The pipeline's password is wrong now."

    def right_password(self) -> str:
        """Give it the right password back."""
        self._mend("password")
        return "The right password is back."

    def put_right(self) -> str:
        """Mend everything, whoever broke it: servers, fault, and settings that a lesson changed."""
        self.put_back()
        services.start()
        self.clear_fault()
        for file in lesson.changes():
            file.unlink(missing_ok=True)
        return "Everything is put right."

    def put_back(self) -> None:
        """Mend whatever was broken here. Harmless twice."""
        for what in reversed(list(self._changed)):
            self._mend(what)
        if self._stopped:
            services.start(*self._stopped)
            self._stopped.clear()

    def states(self) -> dict[str, str]:
        """Each server, the password and the fault, as they are now, in words."""
        found = services.status()
        states = {}
        for name in SERVERS:
            server = found.get("dev" if name == "models" else name)
            running = server["running"] if server else accepts(address())
            states[name] = "running" if running else "stopped"
        if states["temporal"] == "running" and not accepts(address()):
            states["temporal"] = "not answering"
        states["password"] = password_in_words()
        states["fault"] = fault_in_words()
        return states

    def _change(self, what: str, change: AbstractContextManager[None]) -> None:
        """Enter a change that undoes itself, in place of an earlier one of the same thing."""
        self._mend(what)
        change.__enter__()
        self._changed[what] = change

    def _mend(self, what: str) -> None:
        if change := self._changed.pop(what, None):
            change.__exit__(None, None, None)


def password_in_words() -> str:
    """Whether the password that holds now is the one of the lab's own PostgreSQL, and who says so.

    A server elsewhere is not asked: there it is right unless a lesson changes it.
    """
    said = [
        it.owner.pid for it in lesson.changes().values() if "POSTGRES_PASSWORD" in (it.env or {})
    ]
    own = paths().lab / "postgres.password"
    right = settings().postgres_password.get_secret_value()
    if not (said if not own.exists() else right != own.read_text(encoding="utf-8")):
        return "right"
    return f"wrong, changed by process {said[-1]}" if said else "wrong, by .env or the environment"


def fault_in_words() -> str:
    fault = faults.read_fault()
    if fault is None:
        return "none"
    often = next((words for words, times in HOW_OFTEN.items() if times == (fault.times or 0)), None)
    after = " after its work" if fault.when == "after" else ""
    return f"{fault.activity} fails {often or f'{fault.times} times'}{after}"

"""One server of the lab, as a lesson stops, kills and starts it."""

from collections.abc import Iterator
from contextlib import contextmanager

from labkit import services
from labkit.views.live import show_widget


class Handle:
    """One server of the lab: ``lab.postgres.stop()`` really stops it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None:
        """Start it, at the address where it was, and wait until it answers."""
        print(self._start())

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        print(self._stop())

    def kill(self) -> None:
        """End it as a crash does: SIGKILL, or the immediate mode of PostgreSQL."""
        services.stop(self.name, hard=True)
        print(f"{self.name} is killed.")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it, and start it again after the block, even if the block is interrupted."""
        try:
            self.stop()
            yield
        finally:
            self.start()

    def buttons(self) -> None:
        """Show a button to stop it and one to start it."""
        from labkit.views.buttons import own, row_of_buttons

        row = own(row_of_buttons(self.name, {"Stop": self._stop, "Start": self._start}))
        calls = f"lab.{self.name}.stop(), lab.{self.name}.start()"
        show_widget(row, {"text/plain": "Two buttons were here."}, calls=calls)

    def _start(self) -> str:
        services.start(self.name)
        return f"{self.name} runs at {services.SERVICES[self.name].address()}."

    def _stop(self) -> str:
        services.stop(self.name)
        return f"{self.name} is stopped."

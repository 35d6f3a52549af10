"""The model servers for dev and prod, in one process."""

import sys

import httpx

from labkit.services.base import (
    Service,
    free_port,
    logs,
    recorded_port,
    wait_ready,
    with_free_ports,
)
from labkit.services.state import Process, Server, State, find_orphans, spawn
from labkit.settings import config_file, paths

MODULE = "labkit.services.model_server"


class Models(Service):
    """``python -m labkit start models``; ports are in ``config/dev.yml`` and ``prod.yml``."""

    name = "models"
    records = ("dev", "prod")

    def start(self) -> list[str]:
        if self.recorded_alive():
            wait_ready(self.name, self._answers)
            return []
        notes = []
        for orphan in find_orphans(str(paths().deployments)):
            orphan.end()
            notes.append(f"Ended a model server (pid {orphan.pid}) that a crash left behind.")
        with_free_ports(self._start)
        return notes

    def stop(self) -> None:
        self.end_recorded()

    def _start(self) -> None:
        dev = free_port(recorded_port("dev") or config_file("dev.yml")["port"])
        prod = free_port(_after(dev, recorded_port("prod") or config_file("prod.yml")["port"]))
        log = logs(self.name)
        folder = str(paths().deployments)
        child = spawn([sys.executable, "-m", MODULE, folder, str(dev), str(prod)], log)
        process = Process.of(child.pid)
        self.record(
            dev=Server(f"http://127.0.0.1:{dev}", process),
            prod=Server(f"http://127.0.0.1:{prod}", process),
        )
        wait_ready(self.name, self._answers, process, log)

    def _answers(self) -> bool:
        services = State.read().services
        try:
            return all(
                httpx.get(f"{services[name].address}/models", trust_env=False).is_success
                for name in self.records
            )
        except httpx.HTTPError:
            return False


def _after(taken: int, wanted: int) -> int:
    return wanted + 1 if wanted == taken else wanted

"""The model servers for dev and prod, in one process."""

import json
import sys

import httpx

from labkit.core.ports import free_port, with_free_ports
from labkit.core.process import spawn
from labkit.core.record import Server, State
from labkit.core.settings import model_server_port, paths
from labkit.services.base import Service, fresh_log, port_for, wait_ready

MODULE = "labkit.services.model_server"


class Models(Service):
    """``python -m labkit start models``; ports are in ``config/dev.yml`` and ``prod.yml``."""

    name = "models"
    records = ("dev", "prod")

    def markers(self) -> tuple[str, ...]:
        return (MODULE, str(paths().deployments))

    def start(self) -> list[str]:
        if self.recorded_alive():
            wait_ready(self.name, self._answers, State.read().services["dev"].process)
            return []
        notes = self.end_orphans() + _set_broken_memories_aside()
        with_free_ports(self._start)
        return notes

    def _start(self) -> None:
        dev = port_for("dev", model_server_port("dev"))
        prod = port_for("prod", model_server_port("prod"))
        prod = free_port(dev + 1) if prod == dev else prod
        arguments = [sys.executable, "-m", *self.markers(), str(dev), str(prod)]
        process = spawn(arguments, fresh_log(self.name))
        self.record(
            dev=Server(f"http://127.0.0.1:{dev}", process),
            prod=Server(f"http://127.0.0.1:{prod}", process),
        )
        wait_ready(self.name, self._answers, process, [dev, prod])

    def _answers(self) -> bool:
        services = State.read().services
        try:
            return all(
                httpx.get(f"{services[name].address}/models", trust_env=False).is_success
                for name in self.records
            )
        except httpx.HTTPError:
            return False


def _set_broken_memories_aside() -> list[str]:
    """A power cut may leave an empty ``deployments.json``: keep it, and start without."""
    notes = []
    for file in paths().deployments.glob("*/deployments.json"):
        try:
            memory = json.loads(file.read_text(encoding="utf-8"))
            dict(memory["known"]), list(memory["deployed"])
        except (ValueError, KeyError, TypeError):
            aside = file.replace(file.with_name("deployments.broken.json"))
            notes.append(
                f"{file.parent.name} has forgotten its models: {paths().name(file)} could not be "
                f"read, and is {aside.name} now. Deploy again."
            )
    return notes

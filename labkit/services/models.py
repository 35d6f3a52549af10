"""The model servers for dev and prod, in one process."""

import sys
from contextlib import suppress

from labkit.core.ports import with_free_ports
from labkit.core.process import spawn
from labkit.core.record import Server, State
from labkit.core.settings import model_server_port, paths
from labkit.pipeline.work.registry import Registry
from labkit.services.base import ServerEnded, Service, fresh_log, port_for, wait_ready

MODULE = "labkit.services.model_server"


class Models(Service):
    """``python -m labkit start models``; ports are in ``config/dev.yml`` and ``prod.yml``."""

    name = "models"
    records = ("dev", "prod")

    def markers(self) -> tuple[str, ...]:
        return (MODULE, str(paths().deployments))

    def start(self) -> list[str]:
        if self.recorded_alive():
            with suppress(ServerEnded):  # killed at this moment: it is started anew
                wait_ready(self.name, self._answers, State.read().services["dev"].process)
                return []
        notes = self.end_orphans() + _put_registries_right()
        with_free_ports(self._start)
        return notes

    def _start(self) -> None:
        dev = port_for("dev", model_server_port("dev"))
        prod = port_for("prod", model_server_port("prod"), other_than=dev)
        arguments = [sys.executable, "-m", *self.markers(), str(dev), str(prod)]
        process = spawn(arguments, fresh_log(self.name))
        self.record(
            dev=Server(f"http://127.0.0.1:{dev}", process),
            prod=Server(f"http://127.0.0.1:{prod}", process),
        )
        wait_ready(self.name, self._answers, process, [dev, prod])

    def _answers(self) -> bool:
        import httpx

        services = State.read().services
        try:  # by plain HTTP: to load certificates would take longer than to ask
            with httpx.Client(trust_env=False, verify=False) as client:
                urls = [f"{services[name].address}/models" for name in self.records]
                return all(client.get(url).is_success for url in urls)
        except httpx.HTTPError:
            return False


def _put_registries_right() -> list[str]:
    """Say what a power cut has cost, and what an earlier version kept in another way."""
    notes = []
    for folder in paths().deployments.glob("*/"):
        for key in Registry(folder).set_broken_aside():
            notes.append(
                f"{folder.name} has forgotten {key.model_id}: its note could not be read. "
                f"Drop its CSV again."
            )
        if (old := folder / "deployments.json").exists():
            old.unlink()
            notes.append(
                f"{folder.name} has forgotten the models of an earlier version of the lab. "
                f"Drop their CSVs again."
            )
    return notes

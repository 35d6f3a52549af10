"""The model servers for dev and prod, in one process."""

import json
import sys
from contextlib import suppress
from pathlib import Path

from labkit.core.ports import with_free_ports
from labkit.core.process import spawn
from labkit.core.record import Server, State
from labkit.core.settings import model_server_port, paths
from labkit.pipeline.work.registry import Key, Note, Registry
from labkit.services.base import ServerEnded, Service, fresh_log, port_for, wait_ready

MODULE = "labkit.services.model_server"


class Models(Service):
    """``python -m labkit start models``; ports are in ``config/dev.yml`` and ``prod.yml``."""

    name = "models"
    records = ("dev", "prod")

    def markers(self) -> tuple[str, ...]:
        return (MODULE, str(paths().deployments))

    def start(self) -> list[str]:
        if any(paths().deployments.glob("*/deployments.json")):
            self.end()  # a server of an earlier version would not see what is deployed now
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
    """Take over what labs of earlier versions kept in one file; say what a power cut has cost."""
    notes = []
    for folder in paths().deployments.glob("*/"):
        old = folder / "deployments.json"
        if old.exists():
            notes += _take_over(Registry(folder), old)
        for key in Registry(folder).set_broken_aside():
            notes.append(
                f"{folder.name} has forgotten {key.model_id}: its note could not be read. "
                f"Drop its CSV again."
            )
    return notes


def _take_over(registry: Registry, old: Path) -> list[str]:
    """Its models come before all later ones, in the order in which they were deployed."""
    try:
        memory = json.loads(old.read_text(encoding="utf-8"))
        digests, deployed = dict(memory["known"]), list(memory["deployed"])
        known = [model_id for model_id in digests if model_id not in deployed]
        for number, model_id in enumerate([*known, *deployed]):
            state = "deployed" if model_id in deployed else "staged"
            registry.make_note(Key(f"0.{number:06}", model_id), state, Note(digests[model_id]))
    except (ValueError, KeyError, TypeError):
        aside = old.replace(old.with_name("deployments.broken.json"))
        return [
            f"{registry.folder.name} has forgotten its models: {paths().name(old)} could not be "
            f"read, and is {aside.name} now. Deploy again."
        ]
    old.replace(old.with_name("deployments.earlier.json"))
    return []

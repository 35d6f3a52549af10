"""One way to connect to Temporal, for the worker, the watcher, notebooks and the command line."""

import functools
import logging
from urllib.parse import quote

from temporalio.client import Client, HeaderCodecBehavior
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from labkit.core.links import as_link
from labkit.core.record import recorded_address
from labkit.core.settings import LabError, settings, source_of, temporal_profile
from labkit.encryption import EncryptionCodec, data_converter, is_encrypted

USUAL_UI = "http://127.0.0.1:8233"


@functools.cache
def runtime() -> Runtime:
    """One runtime a process. Its logs go to Python's logging, never into a cell."""
    forward = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    levels = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    return Runtime(
        telemetry=TelemetryConfig(logging=LoggingConfig(filter=levels, forwarding=forward))
    )


def address() -> str:
    """The server that the settings name, else the lab's own.

    Raises:
        LabError: the lab's own was never started: what answers at its usual port is another's.
    """
    found = temporal_profile().get("target_host") or recorded_address("temporal")
    if not found:
        raise LabError("The lab's Temporal server is not started. Mend: python -m labkit up")
    return found


def link_to(server: str) -> str:
    """Where a browser finds a server of the lab: the one place that knows.

    Args:
        server: its name on record, such as ui, or dev.
    """
    named = settings().labkit_ui_url if server == "ui" else None
    return (named or as_link(recorded_address(server) or "")).rstrip("/")


def ui_url(id: str) -> str:
    """A run in the Temporal Web UI."""
    namespace, base = settings().temporal_namespace, link_to("ui") or as_link(USUAL_UI)
    return f"{base}/namespaces/{namespace}/workflows/{quote(id, safe='')}"


async def connect(encrypted: bool = False, identity: str | None = None) -> Client:
    """Connect on the running event loop.

    Raises:
        LabError: no server answers, or the encryption key is missing; with the mend.
    """
    profile, mend = temporal_profile(), "python -m labkit start temporal"
    if "target_host" in profile:
        where = source_of("TEMPORAL_ADDRESS")
        mend = f"TEMPORAL_ADDRESS in {where}; or the lab's own, without it: {mend}"
    at = profile["target_host"] = address()
    try:
        return await Client.connect(
            **profile,
            data_converter=data_converter(encrypted),
            header_codec_behavior=HeaderCodecBehavior.CODEC,
            identity=identity,
            runtime=runtime(),
        )
    except RuntimeError as err:
        raise LabError(f"No Temporal server answers at {at}: {err}. Mend: {mend}") from None


async def connect_like(client: Client, id: str) -> Client:
    """A client for what is added to a run: one that encrypts when the run does, else this one."""
    codec = client.data_converter.payload_codec
    writes_plain = not (isinstance(codec, EncryptionCodec) and codec.encrypts)
    return (
        await connect(encrypted=True) if writes_plain and await is_encrypted(client, id) else client
    )

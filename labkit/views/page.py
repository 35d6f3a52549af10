"""The dashboard as a page of its own: Voilà runs its notebook, for this machine only."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import IOLoop
from traitlets.config import Config
from voila.app import Voila

from labkit.core.ports import free_port, wanted_port
from labkit.core.process import on_stop
from labkit.core.settings import MAX_BYTES

PORT = 8501
NOTEBOOK = "notebooks/dashboard.ipynb"
ALONE_SECONDS, LOOK_SECONDS = 60, 5
# A larger upload is refused in words; one beyond this closes the page's connection for a moment.
MESSAGE_BYTES = 2 * MAX_BYTES


class PageKernels(AsyncMappingKernelManager):
    """Ends the kernel of a page that is gone.

    A page says goodbye when it is closed or reloaded. One whose browser crashed does not, and its
    dashboard goes on sending, so that Jupyter's own measure of idleness never fits.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._last_seen: dict[str, float] = {}

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        now = time.monotonic()
        if self._kernel_connections.get(kernel_id) or kernel_id not in self._last_seen:
            self._last_seen[kernel_id] = now
        elif now - self._last_seen[kernel_id] > self.cull_idle_timeout:
            await self.shutdown_kernel(kernel_id)


def leave_out_calls(request: object, notebook: Any, cwd: str) -> None:
    """The page is the dashboard alone; the same as calls is for who opens the notebook."""
    notebook.cells = [c for c in notebook.cells if "calls" not in c.metadata.get("tags", [])]


def serve(notebook: Path, arguments: Sequence[str] = ()) -> None:
    """Serve the dashboard until Ctrl-C or SIGTERM. Each page has a kernel of its own.

    Args:
        notebook: the one that shows it.
        arguments: options of Voilà, such as ``--no-browser`` and ``--theme=dark``.
    """
    config = Config()
    config.Voila.ip = "127.0.0.1"
    config.Voila.port = wanted_port("dashboard", PORT)
    config.Voila.port_retries = 0
    config.Voila.log_level = "ERROR"
    config.Voila.tornado_settings = {
        "allow_remote_access": False,  # answers to no host name that merely points here
        "disable_check_xsrf": True,  # Voilà's page says goodbye without it
        "websocket_max_message_size": MESSAGE_BYTES,
    }
    config.VoilaConfiguration.template = "labkit"
    config.VoilaConfiguration.prelaunch_hook = leave_out_calls
    config.VoilaConfiguration.show_tracebacks = True
    config.VoilaConfiguration.multi_kernel_manager_class = PageKernels
    config.MappingKernelManager.cull_idle_timeout = ALONE_SECONDS
    config.MappingKernelManager.cull_interval = LOOK_SECONDS
    page = Voila.instance(config=config)
    page.initialize([str(notebook), *arguments])
    page.port = free_port(page.port)
    loop = IOLoop.current()
    # Not by an exception, which would be lost in a destructor or in a handler of errors.
    on_stop(lambda: loop.add_callback_from_signal(loop.stop))
    print(f"The dashboard is at {page.connection_url} (Ctrl-C ends it).", flush=True)
    page.start()

"""``python -m labkit dashboard``: Voilà's process and its kernels, without a browser."""

import asyncio
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from labkit.page import PageKernels
from labkit.services.state import State
from labkit.settings import REPOSITORY
from tests.lab.test_cli import Command, is_gone, labkit, own  # noqa: F401

LONG = 60


def ask(url: str, **headers: str) -> httpx.Response:
    """Get a page as soon as somebody answers."""
    deadline = time.monotonic() + LONG
    while True:
        try:
            return httpx.get(url, headers=headers, trust_env=False, timeout=LONG)
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def address(command: Command) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", command.wait_for("The dashboard is at")[-1])
    assert found
    return found[0]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_kernel_of_an_open_page(own: Path, signum: int) -> None:  # noqa: F811
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken = other.connect_ex(("127.0.0.1", 8501)) == 0
        if not taken:
            other.close()
    dashboard = Command("dashboard", "--no-browser")
    url = address(dashboard)
    page = ask(url)
    assert page.status_code == 200 and "labkit-dashboard" not in page.url.path
    assert "cdn" not in page.text.lower() and 'src="http' not in page.text
    assert {user.what for user in State.read().users} == {"dashboard", "lab"}
    assert dashboard.end(signum) == 0
    assert is_gone(own, seconds=15)
    assert State.read() == State()

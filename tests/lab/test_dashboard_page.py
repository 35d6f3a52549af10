"""``python -m labkit dashboard``: Voilà's process and its kernels, without a browser."""

import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from labkit.core.record import State
from labkit.views.page import PORT, PageKernels
from tests.lab.commands import Command, is_gone, labkit

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


def test_ctrl_c_ends_it_with_the_kernel_of_an_open_page(own: Path) -> None:
    with socket.socket() as other:
        with suppress(OSError):  # then another has taken it
            other.bind(("127.0.0.1", PORT))
            other.listen()
        dashboard = Command("dashboard", "--no-browser")
        url = address(dashboard)
    assert not url.endswith(f":{PORT}")
    page = ask(url)
    assert page.status_code == 200
    assert not re.search(r"(src|href)=.https?://(?!127)", page.text)
    assert {user.what for user in State.read().users} == {"dashboard", "lab"}
    assert dashboard.end(signal.SIGINT) == 0
    assert is_gone(own, seconds=15)
    assert State.read() == State()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (["--port=18599"], "/"),
        (["--Voila.port=18599"], "/"),
        (["--port=18599", "--base_url=/x/"], "/x/"),
    ],
)
def test_the_address_that_is_printed_is_the_one(
    own: Path,
    options: list[str],
    path: str,
) -> None:
    dashboard = Command("dashboard", "--no-browser", *options)
    line = dashboard.wait_for("The dashboard is at")[-1]
    found = re.search(r"http://127\.0\.0\.1:(\d+)\S*", line)
    assert found and found[0].endswith(path) and 18599 <= int(found[1]) < 18699
    assert ask(f"{found[0]}voila/files/no-such-file").status_code in (403, 404)
    assert dashboard.end(signal.SIGINT) == 0


def test_down_ends_it_and_strangers_get_nothing(own: Path) -> None:
    dashboard = Command("dashboard", "--no-browser", "--token=letmein")
    url = address(dashboard)
    assert "/login" in ask(url).headers["location"]
    assert ask(f"{url}?token=letmein", host="evil.example").status_code == 403
    failed = ask(f"{url}/voila/files/no-such-file")
    assert failed.status_code >= 400 and "https://" not in failed.text
    assert f"ended dashboard (pid {dashboard.process.pid})" in labkit("down")
    assert dashboard.process.wait(LONG) == 0
    assert is_gone(own)


async def test_the_kernel_of_a_page_that_is_gone_is_ended(
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("labkit.views.page.time", SimpleNamespace(monotonic=lambda: now))
    kernels = PageKernels(cull_idle_timeout=60)
    id = await kernels.start_kernel(kernel_name="python3")
    try:
        for change, wait, stays in (
            (lambda: None, 0, True),
            (lambda: kernels.notify_connect(id), 50, True),
            (lambda: None, 500, True),
            (lambda: kernels.notify_disconnect(id), 50, True),
            (lambda: None, 50, False),
        ):
            change()
            now += wait
            await kernels.cull_kernels()
            assert (id in kernels) is stays
    finally:
        await kernels.shutdown_all()

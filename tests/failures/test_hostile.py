"""Input that means harm: it is refused in words, within bounds, and others go on meanwhile."""

import asyncio
import gzip
import os
import re
import socket
import stat
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from labkit import codec_server, services
from labkit.ask.client import connect
from labkit.core.record import model_server_url
from labkit.core.settings import paths
from labkit.datasets import COLUMNS
from labkit.pipeline.activities import preprocess_data
from labkit.pipeline.messages import PreprocessInput, Status
from tests.lab.commands import Command
from tests.lab.test_lab import small
from tests.ports import BLOCK, SPARE

MEBIBYTE = 2**20
LONG = 90

# --- files ---------------------------------------------------------------------------------------


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 * MEBIBYTE)


def many_columns(path: Path) -> None:
    row = ",".join(str(number) for number in range(100_000))
    path.write_text(f"{row}\n" * 50)


def many_rows(path: Path) -> None:
    path.write_bytes(b"1\n" * (15 * MEBIBYTE))


def many_wrong_values(path: Path) -> None:
    path.write_bytes(b"X,1,-,-,-,-,-,-,-\n" * 300_000)


def gzip_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(100 * MEBIBYTE)))


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.csv", bytes(100 * MEBIBYTE))


def formulas(path: Path) -> None:
    lines = paths().example.read_text().splitlines()[:100]
    path.write_text("\n".join([*lines, lines[1].replace(lines[1][0], "=cmd|' /C calc'!A0", 1)]))


def nul_bytes(path: Path) -> None:
    path.write_bytes(b"M,0.4\x00," * 5000)


REFUSED: dict[Callable[[Path], None], str] = {
    huge: "huge.csv is larger than 32 MiB",
    many_columns: "many_columns.csv, line 1 has 588890 characters",
    many_rows: "many_rows.csv must have 9 columns",
    many_wrong_values: "and 159997 more, up to line 20000. Mend",
    gzip_bomb: "gzip_bomb.csv is binary, not text: a gzip archive",
    zip_bomb: "zip_bomb.csv is binary, not text: a ZIP archive or an Excel workbook",
    formulas: "sex is \"=cmd|' /C calc'!A0\" (must be M, F or I)",
    nul_bytes: "NUL byte in line 1",
}


def peak_memory(pid: int) -> int:
    """In MiB, as the system has seen it since the process began."""
    [line] = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) // 1024


def not_files(folder: Path) -> Iterator[str]:
    """Things called ….csv that are no files: none may hold the watcher up."""
    (folder / "folder.csv").mkdir()
    (folder / "outside.csv").symlink_to("/etc/passwd")
    (folder / "outside").symlink_to("/etc")
    os.mkfifo(folder / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket must be short
        server.bind("socket.csv")
        os.chdir(here)
    if os.geteuid() == 0:
        os.mknod(folder / "device.csv", 0o644 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
        yield "device"
    yield from ("folder", "outside", "pipe", "socket")


@pytest.fixture
def parts(servers: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Command, Command]]:
    """A worker and a watcher in processes of their own, on a queue of their own."""
    monkeypatch.setenv("TEMPORAL_TASK_QUEUE", f"hostile-{uuid4().hex}")
    worker, watcher = Command("worker"), Command("watch")
    try:
        worker.wait_for("ready")
        watcher.wait_for("ready")
        yield worker, watcher
    finally:
        assert [part.end() for part in (worker, watcher)] == [0, 0]


async def reports(client: Client, folder: Path) -> dict[str, Status]:
    query = f"TaskQueue='{os.environ['TEMPORAL_TASK_QUEUE']}'"
    found = {}
    async for run in client.list_workflows(query):
        status = await client.get_workflow_handle(run.id).query("get_status", result_type=Status)
        found[Path(status.dataset_path).stem] = status
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of a process")
async def test_hostile_files_fail_in_words_and_others_go_on(
    parts: tuple[Command, Command], tmp_path: Path
) -> None:
    folder = paths().raw / uuid4().hex
    folder.mkdir(parents=True)
    worker, watcher = (part.process.pid for part in parts)
    before = peak_memory(worker), peak_memory(watcher)
    ignored = list(not_files(folder))
    for make in REFUSED:
        make(folder / f".{make.__name__}")
        (folder / f".{make.__name__}").rename(folder / f"{make.__name__}.csv")
    (folder / "good.csv").write_text(small(tmp_path).read_text())
    os.link(folder / "good.csv", folder / "good-linked.csv")

    client, deadline = await connect(), time.monotonic() + LONG
    names = {make.__name__ for make in REFUSED} | {"good", "good-linked"}
    while time.monotonic() < deadline:
        found = await reports(client, folder)
        done = [s for s in found.values() if s.failure_reason or len(s.completed_steps) >= 4]
        if len(done) == len(names):
            break
        await asyncio.sleep(0.3)
    assert set(found) == names, "and nothing that is no file started one"
    for make, words in REFUSED.items():
        reason = found[make.__name__].failure_reason or ""
        assert reason.startswith("InvalidData: ") and words in reason
    for name in ("good", "good-linked"):
        assert "quality_assessment" in found[name].completed_steps, found[name].failure_reason
    log = (paths().logs / "watch.log").read_text()
    for name in ignored:
        assert f"'{name}.csv' is a" in log
    grown = peak_memory(worker) - before[0], peak_memory(watcher) - before[1]
    assert grown[0] < 600 and grown[1] < 30, f"MiB that the worker and the watcher grew: {grown}"
    for path in folder.glob("*"):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def something(home: Path, kind: str) -> Iterator[str]:
    """A name for a participant's own request that leads out of ``data/``, or to no file."""
    paths().make()
    (paths().raw / "link.csv").symlink_to("/etc/passwd")
    os.mkfifo(paths().raw / "pipe.csv")
    yield {
        "above": "../../../../../../../../etc/passwd",
        "above from within": "data/raw/../../.env",
        "absolute": "/etc/passwd",
        "link": "data/raw/link.csv",
        "pipe": "data/raw/pipe.csv",
        "device": "/dev/zero",
        "nul": "data/raw/a\0.csv",
    }[kind]


@pytest.mark.parametrize(
    "kind", ["above", "above from within", "absolute", "link", "pipe", "device", "nul"]
)
@pytest.mark.parametrize("field", ["dataset_path", "snapshot_path"])
def test_names_that_try_to_leave_data(home: Path, kind: str, field: str) -> None:
    """Whoever may start a workflow may write any name into it."""
    with something(home, kind) as name:
        paths_given = {"dataset_path": "data/raw/good.csv", "snapshot_path": None} | {field: name}
        request = PreprocessInput("m-1", sha256=None, misalign_labels=False, **paths_given)  # type: ignore[arg-type]
        with pytest.raises(ApplicationError) as caught:
            ActivityEnvironment().run(preprocess_data, request)
    assert caught.value.type == "InvalidData"
    wanted = "is a pipe" if kind == "pipe" else "is not below data/"
    assert wanted in caught.value.message
    assert "root:" not in caught.value.message
    assert not [*paths().processed.iterdir()]


# --- HTTP ----------------------------------------------------------------------------------------


def talk(address: str, request: bytes, seconds: float = 5) -> bytes:
    """Send raw bytes, and read an answer to its end: the body may come in a piece of its own."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(request)
        answer = b""
        while not is_whole(answer) and (piece := connection.recv(65536)):
            answer += piece
        return answer


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


@pytest.fixture
def codec(servers: Path) -> Iterator[str]:
    with codec_server.running(BLOCK.of(servers) + SPARE) as address:
        yield address


def models(servers: Path) -> str:
    return model_server_url("dev")


PATHS = [
    "/models/..%2f..%2f.env/predict",
    "/models/%2e%2e/predict",
    "/models/%00/predict",
    "/models//etc/passwd",
    "//etc/passwd",
    "/../../../../etc/passwd",
    "/static-offline-docs/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/static-offline-docs/../../../../../../etc/passwd",
    "/static-offline-docs/%00",
    "/static-offline-docs//etc/passwd",
    "http://127.0.0.1/etc/passwd",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_path_tricks_and_methods(servers: Path, method: str) -> None:
    for path in PATHS:
        request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        answer = talk(models(servers), request.encode())
        assert answer.split()[1][:1] == b"4", (path, answer[:200])
        assert b"root:" not in answer


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n", b"\0" * 70_000],
)
def test_what_is_no_http(servers: Path, request_: bytes) -> None:
    assert talk(models(servers), request_).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{models(servers)}/models").is_success


def post(length: str, body: bytes = b"") -> bytes:
    head = (
        "POST /models/current/predict HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json"
    )
    return f"{head}\r\n{length}\r\n\r\n".encode() + body


def test_a_huge_body_is_refused_unread(servers: Path) -> None:
    answer = talk(models(servers), post(f"Content-Length: {10**12}"))
    assert answer.startswith(b"HTTP/1.1 413") and b"More than 4 MiB at once" in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize("path", ["/models", "/nowhere", "/docs"])
def test_a_huge_body_where_none_is_expected(servers: Path, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n"
    answer = talk(models(servers), head.encode())
    assert answer.startswith(b"HTTP/1.1 413") and b"More than 4 MiB at once" in answer


def test_a_huge_body_of_the_codec_server(codec: str) -> None:
    head = "POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    answer = talk(codec, head.encode())
    assert answer.startswith(b"HTTP/1.1 413") and b"More than 32 MiB at once" in answer


def test_a_huge_body_that_does_not_say_so_is_cut_off(servers: Path) -> None:
    chunk = b"100000\r\n" + b" " * MEBIBYTE + b"\r\n"
    pid = services.status()["dev"]["pid"]
    before = peak_memory(pid)
    try:
        answer = talk(models(servers), post("Transfer-Encoding: chunked", chunk * 5))
        assert answer.startswith(b"HTTP/1.1 413")
    except ConnectionError:
        pass  # it hung up while we still sent: no less clear
    assert peak_memory(pid) - before < 60


def test_the_largest_request_that_is_allowed_fits(servers: Path) -> None:
    size = {"sex": "M"} | dict.fromkeys(COLUMNS[1:-1], 0.1234567890123456)
    answer = httpx.post(
        f"{models(servers)}/models/none-here/predict", json={"instances": [size] * 10_000}
    )
    assert answer.status_code == 404, "of a model, not of the size"


@pytest.mark.parametrize(
    "path", ["/..%2fdecode", "/decode/..%2f.env", "/%00", "//decode", "/a/b/c"]
)
def test_path_tricks_of_the_codec_server(codec: str, path: str) -> None:
    for method in ("GET", "POST", "PUT", "BREW"):
        request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
        assert talk(codec, request.encode()).split()[1][:1] == b"4"

"""The watcher, against a real Temporal server without a worker: started workflows are counted."""

import asyncio
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from labkit import services, watcher
from labkit.ask.client import connect
from labkit.core import passed_over
from labkit.core.arrivals import being_written, take_snapshot, wanted, why_unwanted
from labkit.core.passed_over import read_passed_over
from labkit.core.settings import paths
from labkit.pipeline.activities import preprocess_data
from labkit.pipeline.messages import PipelineInput, PreprocessInput
from labkit.watcher import Watcher

SETTLE_SECONDS = 0.3
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="closes are seen on Linux alone")


class Drops:
    """A folder that is watched, and the workflows that its files started."""

    def __init__(self, folder: Path, queue: str) -> None:
        self.folder, self.queue = folder, queue

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with Watcher(await connect(), self.folder).running():
            yield

    async def expect(self, count: int, seconds: float = 20) -> list[PipelineInput]:
        """Wait until so many workflows have started, and see that no further one does."""
        client = await connect()
        deadline = time.monotonic() + seconds
        while len(await self._ids(client)) < count and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await asyncio.sleep(SETTLE_SECONDS)
        ids = await self._ids(client)
        assert len(ids) == count, ids
        return [await _input(client, id) for id in ids]

    async def _ids(self, client: Client) -> list[str]:
        query = f"TaskQueue='{self.queue}'"
        return [run.id async for run in client.list_workflows(query)]


async def _input(client: Client, id: str) -> PipelineInput:
    history = await client.get_workflow_handle(id).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    return (await client.data_converter.decode(payloads, [PipelineInput]))[0]


@pytest.fixture
def drops(servers: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drops]:
    queue = f"watcher-{uuid4().hex}"
    monkeypatch.setenv("TEMPORAL_TASK_QUEUE", queue)
    folder = paths().raw / queue
    folder.mkdir(parents=True)
    yield Drops(folder, queue)
    shutil.rmtree(folder, ignore_errors=True)  # or the session's next lab would run all of it


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    logger = logging.getLogger("labkit")
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.INFO, "labkit")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


async def said(drops: Drops, name: str = "", why: str = "", seconds: float = 20) -> None:
    """Wait until this, and nothing else below the folder, is on the list of what is passed over."""
    prefix = f"data/raw/{drops.folder.name}/"
    deadline = time.monotonic() + seconds
    while True:
        found = {n: w for n, w in read_passed_over().items() if n.startswith(prefix)}
        wanted = [*found] == [prefix + name] and found[prefix + name].startswith(why)
        if wanted if name else not found:
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_whole(request: PipelineInput, path: Path) -> bool:
    snapshot = paths().find(request.snapshot_path)
    return request.sha256 == sha256(path) == sha256(snapshot)


async def write_slowly(path: Path, pauses: int = 3, seconds: float = 0.5) -> None:
    """One open file, several writes that reach the disk, and pauses between them."""
    with path.open("w") as file:
        for number in range(pauses):
            file.write(f"{number}\n" * 1000)
            file.flush()
            await asyncio.sleep(seconds)
        file.write("end\n")


async def test_a_slow_writer_starts_once_at_its_end(drops: Drops) -> None:
    path = drops.folder / "slow.csv"
    async with drops.watched():
        writing = asyncio.create_task(write_slowly(path, pauses=4, seconds=0.7))
        await asyncio.sleep(2)
        await drops.expect(0, seconds=0)
        await writing
        [request] = await drops.expect(1)
    assert is_whole(request, path)


async def test_a_large_copy_starts_once_at_its_end(drops: Drops, tmp_path: Path) -> None:
    source, target = tmp_path / "large", drops.folder / "large.csv"
    source.write_bytes(os.urandom(1 << 20) * 300)
    async with drops.watched():
        copy = await asyncio.create_subprocess_exec("cp", source, target)
        assert await copy.wait() == 0
        [request] = await drops.expect(1)
    assert is_whole(request, source)


async def test_a_rename_into_place_starts_once(drops: Drops) -> None:
    hidden, outside = drops.folder / ".a.csv.part", drops.folder.parent / f".{uuid4().hex}"
    async with drops.watched():
        for source, name in ((hidden, "a.csv"), (outside, "b.csv")):
            await write_slowly(source, pauses=1, seconds=0.1)
            source.rename(drops.folder / name)
        os.link(drops.folder / "a.csv", drops.folder / "linked.csv")
        requests = await drops.expect(3)
    assert {Path(request.dataset_path).name for request in requests} == {
        "a.csv",
        "b.csv",
        "linked.csv",
    }


async def test_a_time_set_after_the_close_starts_once(drops: Drops, tmp_path: Path) -> None:
    source = tmp_path / "old.csv"
    source.write_text("old\n" * 20000)
    os.utime(source, (1_600_000_000, 1_600_000_000))
    async with drops.watched():
        for number in range(20):
            await asyncio.to_thread(shutil.copy2, source, drops.folder / f"{number}.csv")
        await drops.expect(20)
    async with drops.watched():
        await drops.expect(20)


async def test_subfolders(drops: Drops, tmp_path: Path) -> None:
    full = drops.folder.parent / f".{uuid4().hex}"
    (full / "below").mkdir(parents=True)
    (full / "a.csv").write_text("a")
    (full / "below" / "b.CSV").write_text("b")
    async with drops.watched():
        full.rename(drops.folder / "moved")
        for number in range(10):
            folder = drops.folder / f"made{number}" / "below"
            folder.mkdir(parents=True)
            (folder / "c.Csv").write_text("c")
        requests = await drops.expect(12)
        (drops.folder / "moved" / "below" / "later.csv").write_text("later")
        await drops.expect(13)
    assert len({request.dataset_path for request in requests}) == 12


@pytest.mark.parametrize(
    "name", ["~$x.csv", ".x.csv", ".x.csv.part", "#x.csv#", "#x.csv", "x.csv~", "x.txt", "csv"]
)
def test_hidden_and_temporary_names_are_not_wanted(name: str) -> None:
    assert not wanted(Path(name))


async def test_hidden_folders_are_ignored(drops: Drops) -> None:
    async with drops.watched():
        for name in (".ipynb_checkpoints", ".git/below"):
            folder = drops.folder / name
            folder.mkdir(parents=True)
            (folder / "x.csv").write_text("x")
        await drops.expect(0, seconds=0.5)
    async with drops.watched():
        await drops.expect(0, seconds=0.5)


async def test_two_hundred_files_at_once(drops: Drops) -> None:
    async with drops.watched():
        for number in range(200):
            (drops.folder / f"{number}.csv").write_text(f"{number}\n" * 50)
        await drops.expect(200, seconds=40)


async def test_files_dropped_while_it_was_down_start_once_over_restarts(drops: Drops) -> None:
    for number in range(5):
        (drops.folder / f"{number}.csv").write_text(f"{number}\n")
    for _ in range(3):
        async with drops.watched():
            await drops.expect(5)


async def test_dropped_again_within_the_second_starts_again(drops: Drops) -> None:
    path, hidden = drops.folder / "again.csv", drops.folder / ".again"
    async with drops.watched():
        for number in range(3):
            hidden.write_text(f"drop {number}\n")
            hidden.replace(path)
            [*_] = await drops.expect(number + 1)
        requests = await drops.expect(3)
    contents = {paths().find(request.snapshot_path).read_text() for request in requests}
    assert contents == {"drop 0\n", "drop 1\n", "drop 2\n"}


async def test_what_triggered_is_what_is_kept(drops: Drops) -> None:
    """A file that is replaced all the time: each run has bytes that were whole once."""
    path, hidden = drops.folder / "busy.csv", drops.folder / ".busy"
    texts = [f"{number}\n" * 100_000 for number in range(30)]
    async with drops.watched():
        for text in texts:
            hidden.write_text(text)
            hidden.replace(path)
            await asyncio.sleep(0.015)
        await asyncio.sleep(1)
        client = await connect()
        requests = [await _input(client, id) for id in await drops._ids(client)]
    whole = {hashlib.sha256(text.encode()).hexdigest() for text in texts}
    assert requests
    assert {request.sha256 for request in requests} <= whole
    assert sha256(path) in {request.sha256 for request in requests}
    for request in requests:
        assert sha256(paths().find(request.snapshot_path)) == request.sha256


ODD_NAMES = [
    "with spaces.csv",
    "ümläut-名前.csv",
    "🐚🦪.csv",
    "-rf.csv",
    "x" * 196 + ".csv",
    "🐚" * 60 + ".csv",
    "new\nline.csv",
    "quo'te\".csv",
    "per%cent%s.csv",
    "..two..dots...csv",
]


async def test_odd_names_start(drops: Drops, log: Callable[[], str]) -> None:
    undecodable = os.fsencode(drops.folder) + b"/\xff\xfe.csv"
    visible = [name for name in ODD_NAMES if wanted(Path(name))]
    async with drops.watched():
        for name in ODD_NAMES:
            (drops.folder / name).write_text(name)
        with open(undecodable, "wb") as file:  # noqa: PTH123
            file.write(b"undecodable")
        await drops.expect(len(visible) + 1)
    assert r"'new\nline.csv' started mlops-" in log()
    assert r"'\udcff\udcfe.csv' started mlops-" in log()


async def test_what_is_not_a_file_gets_a_line(
    drops: Drops, log: Callable[[], str], tmp_path: Path
) -> None:
    async with drops.watched():
        (drops.folder / "folder.csv").mkdir()
        (drops.folder / "folder.csv" / "inside.csv").write_text("inside")
        (drops.folder / "link.csv").symlink_to("/etc/passwd")
        (drops.folder / "dangling.csv").symlink_to(tmp_path / "nowhere")
        (drops.folder / "linked-folder.csv").symlink_to(tmp_path)
        os.mkfifo(drops.folder / "pipe.csv")
        [request] = await drops.expect(1)
    assert request.dataset_path.endswith("inside.csv")
    for name in ("folder", "link", "dangling", "linked-folder", "pipe"):
        assert log().count(f"'{name}.csv' is a") == 1, log()


async def test_a_vanishing_file_is_harmless(
    drops: Drops, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it goes between two looks, or after it has looked complete."""

    def written(path: Path) -> bool | None:
        if path.name == "late.csv":
            path.unlink()
        return being_written(path)

    monkeypatch.setattr(watcher, "being_written", written)
    async with drops.watched():
        for number in range(20):
            path = drops.folder / f"{number}.csv"
            path.write_text("here")
            path.unlink()
        (drops.folder / "late.csv").write_text("here")
        (drops.folder / "stays.csv").write_text("stays")
        await drops.expect(1)
    assert "'late.csv' was gone before it could be read" in log()


async def test_a_full_disk_is_waited_for(
    drops: Drops, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def snapshot(path: Path) -> tuple[Path, str]:
        if full:
            raise OSError(28, "No space left on device")
        return take_snapshot(path)

    monkeypatch.setattr(watcher, "take_snapshot", snapshot)
    monkeypatch.setattr(watcher, "RETRY_SECONDS", 0.1)
    async with drops.watched():
        for number in range(12):
            (drops.folder / f"{number}.csv").write_text("kept")
        await drops.expect(0, seconds=0.5)
        full = False
        await drops.expect(12)
    assert log().count("No space left on device") == 12


async def test_a_file_that_may_not_be_read(
    drops: Drops, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root everything may be read, so the refusal is made up; the rest is real."""
    refused = drops.folder / "refused.csv"
    refuse = True

    def written(path: Path) -> bool | None:
        if refuse and path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return being_written(path)

    monkeypatch.setattr(watcher, "being_written", written)
    monkeypatch.setattr(watcher, "RETRY_SECONDS", 0.1)
    async with drops.watched():
        refused.write_text("secret")
        (drops.folder / "other.csv").write_text("other")
        await drops.expect(1)
        assert "'refused.csv' cannot be copied: [Errno 13] Permission denied" in log()
        await said(drops, "refused.csv", "cannot be copied: [Errno 13] Permission denied")
        refuse = False
        await drops.expect(2)
        await said(drops)


async def test_a_server_that_is_down_is_waited_for(drops: Drops, log: Callable[[], str]) -> None:
    async with drops.watched():
        await asyncio.to_thread(services.stop, "temporal")
        for number in range(10):
            (drops.folder / f"{number}.csv").write_text(f"{number}\n")
        await asyncio.sleep(1)
        await asyncio.to_thread(services.start, "temporal")
        await drops.expect(10, seconds=40)


async def test_a_file_that_is_open_when_it_starts_is_waited_for(drops: Drops) -> None:
    path = drops.folder / "open.csv"
    with path.open("w") as file:
        file.write("half")
        file.flush()
        async with drops.watched():
            await drops.expect(0, seconds=0.5)
            file.write("whole")
            file.close()
            [request] = await drops.expect(1)
    assert is_whole(request, path)


def no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a network folder, or where another program has taken all watches."""

    def refuse() -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(watcher, "Observer", refuse)


async def test_without_events(
    drops: Drops, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_events(monkeypatch)
    path = drops.folder / "slow.csv"
    async with drops.watched():
        for number in range(30):
            (drops.folder / f"{number}.csv").write_text(f"{number}\n")
        await write_slowly(path, pauses=3, seconds=1.6)
        (drops.folder / "renamed.csv").hardlink_to(path)
        requests = await drops.expect(32)
    assert "inotify instance limit reached. The watcher looks once a second." in log()
    [request] = [request for request in requests if request.dataset_path.endswith("slow.csv")]
    assert is_whole(request, path)


@pytest.mark.parametrize("events", [True, False])
async def test_a_writer_that_the_system_does_not_show(
    drops: Drops, monkeypatch: pytest.MonkeyPatch, events: bool
) -> None:
    """As on a network file system: what changes within a second is still being written."""
    if not events:
        no_events(monkeypatch)
    monkeypatch.setattr(watcher, "being_written", lambda path: None)
    path = drops.folder / "remote.csv"
    async with drops.watched():
        await write_slowly(path, pauses=5, seconds=0.6)
        [request] = await drops.expect(1)
    assert is_whole(request, path)


async def test_nothing_unfinished_is_left(drops: Drops) -> None:
    paths().processed.mkdir(parents=True, exist_ok=True)
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    (paths().processed / f".labkit-{int(dead.stdout)}-abc").write_text("left by a SIGKILL")
    mine = paths().processed / f".labkit-{os.getpid()}-abc"
    mine.write_text("another watcher of this process is at it")
    async with drops.watched():
        (drops.folder / "a.csv").write_text("a")
        await drops.expect(1)
    assert list(paths().processed.glob(".labkit-*")) == [mine]
    mine.unlink()


def test_a_failed_snapshot_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = home / "a.csv"
    source.write_text("a")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, "replace", full)
        take_snapshot(source)
    assert list(paths().processed.iterdir()) == []


def test_looking_for_a_writer_survives_one_that_comes_meanwhile(tmp_path: Path) -> None:
    """Linux ends a process whose lease is broken, unless it asked for another signal."""
    path = tmp_path / "a.csv"
    path.write_text("a")
    writer = "import sys\nwhile True: open(sys.argv[1], 'ab').close()"
    looker = (
        "import sys, time; from pathlib import Path; from labkit.watcher import being_written\n"
        "end = time.monotonic() + 1.5; found = set()\n"
        "while time.monotonic() < end: found.add(being_written(Path(sys.argv[1])))\n"
        "print(found)"
    )
    with subprocess.Popen([sys.executable, "-c", writer, str(path)]) as writing:
        looking = subprocess.run([sys.executable, "-c", looker, str(path)], capture_output=True)
        writing.kill()
    assert looking.returncode == 0, looking
    assert b"True" in looking.stdout and b"False" in looking.stdout


async def test_stopping_amid_many_files_loses_none(drops: Drops) -> None:
    for number in range(60):
        (drops.folder / f"{number}.csv").write_text(f"{number}\n")
    async with drops.watched():
        await asyncio.sleep(0.05)
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
    async with drops.watched():
        await drops.expect(60)
    assert list(paths().processed.glob(".labkit-*")) == []


@pytest.mark.parametrize("events", [True, False])
async def test_a_folder_that_is_deleted_and_made_again_is_watched_again(
    drops: Drops, monkeypatch: pytest.MonkeyPatch, events: bool
) -> None:
    if not events:
        no_events(monkeypatch)
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.1)
    async with drops.watched():
        for number in range(2):
            shutil.rmtree(drops.folder)
            if number:
                drops.folder.mkdir()
                (drops.folder / "before.csv").write_text("here before the watcher looks")
            async with asyncio.timeout(20):
                while not drops.folder.exists():
                    await asyncio.sleep(0.02)
            (drops.folder / f"after{number}.csv").write_text("after")
            await drops.expect(1 + 2 * number)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("abalone.data", "does not end in .csv. If it is a CSV, rename it abalone.csv"),
        ("good.csv.txt", "does not end in .csv. If it is a CSV, rename it good.csv"),
        ("good.csv (1)", "does not end in .csv. If it is a CSV, rename it good.csv"),
        ("Good.TSV", "does not end in .csv. If it is a CSV, rename it Good.csv"),
        ("abalone.zip", "is an archive. Unpack it, and drop the CSV."),
        ("good.csv.gz", "is an archive. Unpack it, and drop the CSV."),
        ("good.xlsx", "is a workbook. Export its table as a CSV."),
        *[(name, "") for name in (".gitkeep", "README.md", "readme.txt", "plot.png", "a.csv~")],
        *[(name, "") for name in ("LICENSE", "good.csv.part", "good.csv.crdownload", "x.py")],
    ],
)
def test_what_somebody_may_mean_as_data_is_told_from_what_nobody_does(name: str, why: str) -> None:
    assert why_unwanted(name) == why


async def test_what_is_passed_over_is_said_once_while_it_is_there(
    drops: Drops, log: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "real.csv").write_text("real")
    (tmp_path / "folder").mkdir()
    makes: dict[str, tuple[Callable[[Path], object], str]] = {
        "abalone.data": (lambda path: path.write_text("data"), "does not end in .csv"),
        "linked.csv": (lambda path: path.symlink_to(tmp_path / "real.csv"), "is a link"),
        "more": (lambda path: path.symlink_to(tmp_path / "folder"), "is a link"),
        "x.csv": (lambda path: path.mkdir(), "is a folder"),
        "pipe.csv": (os.mkfifo, "is a link or a device"),
    }
    async with drops.watched():
        (drops.folder / ".gitkeep").touch()
        (drops.folder / "README.md").touch()
        await said(drops)
        for name, (make, why) in makes.items():
            path = drops.folder / name
            make(path)
            await said(drops, name, why)
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            await said(drops, seconds=0)
            assert log().count(f"'{name}' {why}") == 1
        await drops.expect(0)


async def test_a_corrected_file_that_kept_its_time_is_said(drops: Drops) -> None:
    """As an archive or `cp -p` brings it, while the watcher runs and while it does not."""
    path, times = drops.folder / "kept.csv", (1_600_000_000, 1_600_000_000)
    path.write_text("wrong")
    os.utime(path, times)
    async with drops.watched():
        await drops.expect(1)
        path.chmod(0o600)  # changes nothing that is in it
        await drops.expect(1)
        await said(drops)
        path.write_text("right")
        os.utime(path, times)
        await said(drops, "kept.csv", "has changed, but its time has not, and mlops-20200913-")
    passed_over.write_passed_over({})
    async with drops.watched():
        await said(drops, "kept.csv", "has changed, but its time has not, and mlops-20200913-")
        await drops.expect(1)
        path.touch()
        [_, _] = await drops.expect(2)
        await said(drops)


async def test_a_file_that_stays_open_is_said(
    drops: Drops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "OPEN_SECONDS", 0.5)
    with (drops.folder / "open.csv").open("w") as file:
        file.write("half")
        file.flush()
        async with drops.watched():
            await said(drops, "open.csv", "is open for writing in some program")
            file.close()
            await drops.expect(1)
            await said(drops)


def test_the_list_is_short_and_survives_what_is_written_into_it(home: Path) -> None:
    paths().make()
    files = [paths().raw / f"{number:03}.data" for number in range(200)]
    for file in files:
        file.touch()
    passed_over.write_passed_over({str(file): "why" for file in files})
    assert [*read_passed_over()] == [paths().name(file) for file in files[:50]]
    files[0].unlink()
    assert len(read_passed_over()) == 49
    for broken in (b"", b"{", b"[]", b"\xff", b'{"a": '):
        (paths().lab / "passed-over.json").write_bytes(broken)
        assert read_passed_over() == {}


async def test_an_error_that_nobody_foresaw_does_not_end_the_watcher(
    drops: Drops, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = iter([RuntimeError("a bug"), None])

    def sweep_once(*args: object) -> None:
        if error := next(broken, None):
            raise error

    monkeypatch.setattr(watcher, "write_passed_over", sweep_once)
    async with drops.watched():
        (drops.folder / "a.csv").write_text("a")
        await drops.expect(1)
    assert "something unforeseen" in log()


@pytest.mark.parametrize("linked", ["data", "data/raw", "data/processed"])
async def test_a_folder_that_is_a_link_to_another_disk(
    servers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, linked: str
) -> None:
    """The watcher sees what is dropped, and preprocessing takes it."""
    home, queue = tmp_path / "home", f"watcher-{uuid4().hex}"
    (home / ".lab").mkdir(parents=True)
    for name in (".env", ".lab/state.json", "config"):
        (home / name).symlink_to(servers / name)
    (home / linked).parent.mkdir(exist_ok=True)
    (tmp_path / "disk").mkdir()
    (home / linked).symlink_to(tmp_path / "disk")
    monkeypatch.setenv("LABKIT_HOME", str(home))
    monkeypatch.setenv("TEMPORAL_TASK_QUEUE", queue)
    paths().make()
    drops = Drops(paths().raw, queue)
    async with drops.watched():
        shutil.copy(paths().example, paths().raw / "good.csv")
        started = time.monotonic()
        [request] = await drops.expect(1)
        assert time.monotonic() - started < 20
    asked = PreprocessInput(
        "m-1", request.dataset_path, request.snapshot_path, request.sha256, False
    )
    assert ActivityEnvironment().run(preprocess_data, asked).rows == 4177

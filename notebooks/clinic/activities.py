"""Activities that are ill on purpose, and the same ones when they are well."""

import asyncio
import socket
import threading
import time
from collections import defaultdict
from pathlib import Path

from temporalio import activity

STEP_SECONDS = 0.1
# By workflow id: what ends an activity of that run that would go on for ever.
RELEASED: defaultdict[str, threading.Event] = defaultdict(threading.Event)


def released() -> threading.Event:
    """What ends the running activity."""
    return RELEASED[activity.info().workflow_id]


@activity.defn
def fetch() -> str:
    return "fetched"


@activity.defn
def check() -> str:
    return "checked"


@activity.defn
def train() -> str:
    return "trained"


@activity.defn
def read_half(path: str, half: int) -> str:
    text = Path(path).read_text(encoding="utf-8")
    middle = len(text) // 2
    return text[middle:] if half else text[:middle]


@activity.defn
def read_all(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


@activity.defn(name="read_all")
def say_where(path: str) -> str:
    """In place of read_all: where the text is."""
    return path


@activity.defn
def count_text(first: str, second: str) -> int:
    return (first + second).count("\n")


@activity.defn
def count_file(path: str) -> int:
    return Path(path).read_text(encoding="utf-8").count("\n")


@activity.defn(name="count_file")
def count_any_file(number: int) -> int:
    """In place of count_file: asks for what it is given."""
    return number


@activity.defn
async def blocks() -> None:
    """Async in name. It holds the event loop, and with it whoever shares this worker."""
    released().wait()


@activity.defn
async def fit_in_the_loop(trees: int) -> int:
    return fit(trees)


@activity.defn
def fit_in_a_thread(trees: int) -> int:
    return fit(trees)


# The runs whose fit has begun.
FITTING: set[str] = set()


def fit(trees: int) -> int:
    """Real work for one core."""
    from sklearn.datasets import make_regression
    from sklearn.ensemble import RandomForestRegressor

    FITTING.add(activity.info().workflow_id)
    features, target = make_regression(4000, 8, random_state=0)
    return len(RandomForestRegressor(trees, random_state=0).fit(features, target).estimators_)


@activity.defn
def log_or_say(port: int) -> str:
    """Writes to a database, or says that it could not."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as err:
        return f"error: {err.strerror}"
    return "logged"


@activity.defn
def log_or_raise(port: int) -> str:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return "logged"


@activity.defn
def silent() -> None:
    """Stands for one long call that says nothing until it is done."""
    released().wait()


@activity.defn
def stubborn() -> None:
    """Goes on whatever goes wrong in a step. To be cancelled is one of the things that do."""
    done = False
    while not done:
        try:
            activity.heartbeat()
            done = released().wait(STEP_SECONDS)
        except Exception:
            continue


@activity.defn
def obedient() -> None:
    while not released().wait(STEP_SECONDS):
        activity.heartbeat()


@activity.defn
def export(path: str) -> int:
    """Writes lines for two seconds, each with its attempt and the time."""
    number = activity.info().attempt
    for _ in range(20):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{number} {time.monotonic()}\n")
        if released().wait(STEP_SECONDS):
            break
    return number


@activity.defn(name="export")
def export_and_beat(path: str) -> int:
    """The same with heartbeats, so that an attempt is told when it has been given up."""
    number = activity.info().attempt
    for _ in range(20):
        activity.heartbeat()
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{number} {time.monotonic()}\n")
        if released().wait(STEP_SECONDS):
            break
    return number


@activity.defn
async def ask(url: str) -> int:
    return await _ask(url, None)


@activity.defn(name="ask")
async def ask_with_limit(url: str) -> int:
    import httpx

    try:
        return await _ask(url, 0.5)
    except httpx.TimeoutException:
        raise TimeoutError("the server takes the call, and does not answer") from None


async def _ask(url: str, limit: float | None) -> int:
    """Ask a server, and heartbeat all the while."""
    import httpx

    beating = asyncio.create_task(_beat())
    try:
        async with httpx.AsyncClient(timeout=limit, trust_env=False) as client:
            return (await client.get(url)).status_code
    finally:
        beating.cancel()


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(STEP_SECONDS)


# The runs that have tidied up behind them.
TIDY: list[str] = []


@activity.defn
def tidy_up(id: str) -> None:
    TIDY.append(id)

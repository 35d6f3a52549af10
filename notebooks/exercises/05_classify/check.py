"""Real errors of PostgreSQL: which pass by themselves, and which wait for a human."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType

import psycopg2
from exercise_shared.postgres import full_role, tables
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from labkit.bench import Exercise, expect, require, try_out
from labkit.bench.database import refusal
from labkit.bench.exercise import short

PASSES, HUMAN = "passes", "waits for a human"
# An honest name for a role, and a trap for whoever looks for single words.
ROLE, PASSWORD = "password_reset", "labkit-bench"

# What is wrong: what it is, and the options of the connection.
TROUBLES: dict[str, tuple[str, dict[str, object]]] = {
    "a wrong password": (HUMAN, {"password": "wrong"}),
    "a wrong database": (HUMAN, {"dbname": "wrong_db"}),
    "no such table": (HUMAN, {}),
    "a server that is stopped": (PASSES, {"host": "127.0.0.1"}),
    "too many connections": (PASSES, {"user": ROLE, "password": PASSWORD}),
}

exercise = Exercise(
    task=f"Write classify(err): {PASSES!r} or {HUMAN!r}, for real errors of PostgreSQL.",
    hints=[
        "Ask of each: could it be gone in a minute, if nobody does anything? Look at "
        "err.pgcode, and at str(err).",
        "Without a connection err.pgcode is None, so only the sentence is left. A missing table "
        "has a code: 42P01.",
        "Look for whole phrases, such as 'password authentication failed for user'. What you do "
        "not know passes: an attempt more is cheaper than a run that gave up.",
    ],
    right=(
        "This is what log_experiment does: an error that waits for a human becomes an "
        "ApplicationError that is not retryable, and all others are raised as they are."
    ),
)


@workflow.defn
class Meets:
    """Each trouble in an activity of its own, three attempts at most."""

    @workflow.run
    async def run(self, troubles: list[str]) -> None:
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=3)
        for handle in [
            workflow.start_activity(
                "meet",
                trouble,
                activity_id=trouble,
                start_to_close_timeout=timedelta(seconds=5),
                retry_policy=policy,
            )
            for trouble in troubles
        ]:
            await workflow.wait_condition(handle.done)


@contextmanager
def in_trouble() -> Iterator[None]:
    with full_role(ROLE, PASSWORD), tables():
        yield


def meet(trouble: str) -> psycopg2.Error:
    """The error that the trouble makes, from the server itself."""
    _, options = TROUBLES[trouble]
    nowhere = {"port": free_port()} if trouble == "a server that is stopped" else {}
    return refusal("SELECT * FROM experimentz", **options | nowhere)


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@exercise.shared
def answers(mine: ModuleType) -> dict[str, tuple[object, str]]:
    """For each trouble what the participant says, and of which sentence."""
    with in_trouble():
        errors = {trouble: meet(trouble) for trouble in TROUBLES}
    return {trouble: (mine.classify(err), last_line(err)) for trouble, err in errors.items()}


def last_line(err: psycopg2.Error) -> str:
    first = str(err).strip().splitlines()[0]
    return short(first.split("failed: ")[-1])


def case(trouble: str) -> None:
    @exercise.case(trouble)
    def is_right(mine: ModuleType) -> None:
        answer, said = answers(mine)[trouble]
        expect(answer, TROUBLES[trouble][0], f"the server said {said}")


for trouble in TROUBLES:
    case(trouble)


@exercise.case("on Temporal: one attempt where a human is needed, three elsewhere")
def on_temporal(mine: ModuleType) -> None:
    answers(mine)

    @activity.defn(name="meet")
    def meets(trouble: str) -> None:
        err = meet(trouble)
        if mine.classify(err) == HUMAN:
            raise ApplicationError(str(err), non_retryable=True) from None
        raise err

    with in_trouble():
        tried = try_out(Meets, list(TROUBLES), activities=[meets])
    tried.ended()
    for trouble, (wanted, _) in TROUBLES.items():
        count = len([x for x in tried.ledger if (x["kind"], x["id"]) == ("attempt", trouble)])
        wants, words = (1, "1 attempt") if wanted == HUMAN else (3, "3 attempts")
        require(count == wants, f"{trouble}: expected {words}, got {count}")

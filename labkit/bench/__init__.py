"""Participants write Temporal code in cells, and it is run for real.

In a notebook::

    from labkit.bench import exercises, try_out

    q = exercises("00")       # the exercises of notebook 00, and the cell magic %%mine
    q                         # what there is, and how far you are
    q.hello.check()           # tries each case on the lab's server and says how it went
    q.hello.hint()            # one more hint at each call
    q.hello.solution()        # code that can be pasted
    q.hello.stub()            # the cell as it was at first

    q.attempts.predict(3)     # keeps an answer without judging
    q.attempts.compare(run)   # "You said 3. It was 1: …"

A cell that begins with ``%%mine hello`` is kept as ``notebooks/mine/<notebook>/hello.py`` and
imported afresh, so that the sandbox can check a workflow in it and a worker process can import it.
:func:`try_out` runs a workflow on the lab's own Temporal server, breaks what it is told to break,
and gives back a :class:`Try`: result, history and ledger. It ends whatever it started.
:func:`effect` notes a side effect of an activity in the ledger, and :func:`work` takes its time.

Exercises are folders beside the notebooks, ``notebooks/exercises/<NN>_<name>/``. Their ``check.py``
uses :class:`Exercise`, :class:`Off`, :func:`expect`, :func:`require`, :func:`replay`,
:func:`with_client` and :class:`Fault`; what several of them share is in ``exercise_shared``.

Everything is loaded on first use: a worker process imports this package and needs little of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.bench.content import Prediction, exercises
    from labkit.bench.exercise import Exercise, expect, require, short
    from labkit.bench.ledger import Ledger, effect, work
    from labkit.bench.loop import with_client
    from labkit.bench.outcome import Try
    from labkit.bench.record import progress
    from labkit.bench.tries import replay, try_out
    from labkit.bench.tryworker import Fault
    from labkit.bench.words import Off, quoted

__all__ = [
    "Exercise",
    "Fault",
    "Ledger",
    "Off",
    "Prediction",
    "Try",
    "effect",
    "exercises",
    "expect",
    "progress",
    "quoted",
    "replay",
    "require",
    "short",
    "try_out",
    "with_client",
    "work",
]
_HOMES = {
    "content": ("Prediction", "exercises"),
    "exercise": ("Exercise", "expect", "require", "short"),
    "ledger": ("Ledger", "effect", "work"),
    "record": ("progress",),
    "loop": ("with_client",),
    "outcome": ("Try",),
    "tries": ("replay", "try_out"),
    "tryworker": ("Fault",),
    "words": ("Off", "quoted"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"labkit.bench.{home}"), name)
    raise AttributeError(f"module 'labkit.bench' has no attribute {name!r}")

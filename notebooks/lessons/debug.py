"""A debugger in a replay: you type at its prompt, or what you would type is written down."""

import builtins
import itertools
import pdb
import threading
from contextlib import ExitStack
from types import FrameType
from typing import Any
from unittest.mock import patch

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from labkit.ask.client import runtime
from labkit.bench.cells import latest, refresh
from labkit.bench.loop import with_client
from labkit.bench.words import Off, quoted
from labkit.core.process import until
from labkit.core.settings import LabError

SECONDS, SECONDS_TO_TYPE = 20, 3600
HUNG = "try"  # the name of the threads that activities of tries run in


def look(workflow: type, history: WorkflowHistory, *commands: str) -> None:
    """Replay a history, and stop at each ``breakpoint()`` of the workflow's code.

    Args:
        commands: what to type at each stop, before it goes on. Without any, you are asked.

    Raises:
        Off: the history does not replay.
        LabError: an activity of an earlier try hangs in a thread.
    """
    # It will be told of its end when it wakes up. Until then, Python 3.11 traces one line for ever.
    if not until(lambda: all(it.name != HUNG for it in threading.enumerate()), 1):
        raise LabError(
            "An activity of an earlier try still hangs in a thread, and no debugger works beside "
            "it. Restart the kernel, run the cells above that you need, and look again."
        )
    refresh()
    # In debug mode, a workflow may take as long as you think. Its sandbox would know no prompt.
    replayer = Replayer(
        workflows=[latest(workflow)],
        workflow_runner=UnsandboxedWorkflowRunner(),
        debug_mode=True,
        runtime=runtime(),
    )
    seconds = SECONDS if commands else SECONDS_TO_TYPE
    with ExitStack() as stack:
        plain = next(it for it in pdb.Pdb.__mro__ if it.__module__ == "pdb")
        stack.enter_context(patch.object(pdb, "Pdb", plain))  # a kernel's has colours, and more
        stack.enter_context(patch.object(plain, "print_stack_entry", _where))
        if commands:
            stack.enter_context(patch.object(builtins, "input", _typist(*commands, "continue")))
        outcome = with_client(
            lambda client: replayer.replay_workflow(history, raise_on_replay_failure=False), seconds
        )
    if outcome.replay_failure:
        raise Off(quoted(outcome.replay_failure))


def _where(self: pdb.Pdb, frame_lineno: tuple[FrameType, int], *_: Any) -> None:
    """A cell's function by its name: nobody wants the path of its file."""
    self.message(f"Stopped in {frame_lineno[0].f_code.co_name}.")


def _typist(*commands: str) -> Any:
    lines = itertools.cycle(commands)

    def typed(prompt: object = "") -> str:
        line = next(lines)
        print(f"{prompt}{line}")
        return line

    return typed

"""What the list of runs shows of each: step, accuracy and outcome, as search attributes.

The server keeps them outside the history, for lists and searches, and never encrypts them. To
change one costs as much as half an activity, and most steps take milliseconds.
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)

from labkit.pipeline.messages import STEPS
from labkit.pipeline.patience import LastTask

PIPELINE_STEP = SearchAttributeKey.for_keyword("PipelineStep")
ACCURACY = SearchAttributeKey.for_float("Accuracy")
OUTCOME = SearchAttributeKey.for_keyword("Outcome")

# What a starter lists, so that the workflow need not.
FIRST_STEP = TypedSearchAttributes([SearchAttributePair(PIPELINE_STEP, STEPS[0])])
# A step that lasts longer than that is listed, so that the list is right within a second.
A_MOMENT = timedelta(seconds=0.8)
# These last, or are the last.
AT_ONCE = ("model_training", "awaiting_prod_approval", "completed")


class Listing:
    """Lists a step when it has lasted for a moment, or at once when it is known to last.

    Runs that were started without a step in the list, as all once were, list each step at once.
    ``outcome`` is set before the last step.
    """

    def __init__(self, task: LastTask) -> None:
        self._task = task
        self._listed = workflow.info().typed_search_attributes.get(PIPELINE_STEP)
        self._each, self._step = self._listed is None, self._listed or ""
        self._accuracy: float | None = None
        self.outcome = ""
        self._soon: asyncio.Task[None] | None = None

    def begin(self, step: str) -> None:
        """The run is at a step from now on."""
        self._step = step
        if self._each or step in AT_ONCE:
            self._list()
        elif self._listed != step and self._soon is None:
            self._soon = asyncio.create_task(self._list_what_lasts())

    def measured(self, accuracy: float) -> None:
        """The accuracy is known. It is listed with the next step that is."""
        if self._each:
            workflow.upsert_search_attributes([ACCURACY.value_set(accuracy)])
        else:
            self._accuracy = accuracy

    def fail(self) -> None:
        """The run ends at this step, not by itself."""
        self.outcome = "failed" if workflow.cancellation_reason() is None else "cancelled"
        if not self._each or workflow.patched("outcome"):
            self._list()

    def _list(self) -> None:
        updates: list[SearchAttributeUpdate[Any]] = [PIPELINE_STEP.value_set(self._step)]
        if self._accuracy is not None:
            updates.append(ACCURACY.value_set(self._accuracy))
        if self.outcome and (not self._each or workflow.patched("outcome")):
            updates.append(OUTCOME.value_set(self.outcome))
        workflow.upsert_search_attributes(updates)
        self._listed, self._accuracy = self._step, None

    async def _list_what_lasts(self) -> None:
        try:
            await workflow.wait_condition(
                lambda: self._listed == self._step,
                timeout=A_MOMENT,
                timeout_summary="A step that lasts is listed",
            )
        except TimeoutError:
            self._task.note()
            self._list()
        self._soon = None

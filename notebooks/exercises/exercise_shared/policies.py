"""Retry policies of participants, tried on an activity that fails each time."""

import builtins
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.common.v1 import RetryPolicy as PolicyMessage
from temporalio.common import RetryPolicy

from labkit.bench.exercise import require, short
from labkit.bench.outcome import Try
from labkit.bench.tries import try_out

MONTH = timedelta(days=30)


@activity.defn
def always_fails(error: str) -> None:
    raise getattr(builtins, error)("this fails each time")


@workflow.defn
class Retried:
    """Calls the activity under a policy, which travels as the server would get it."""

    @workflow.run
    async def run(self, policy: PolicyMessage, error: str) -> None:
        await workflow.execute_activity(
            always_fails,
            error,
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy.from_proto(policy),
        )


def try_policy(policy: Any, error: str = "OSError", **options: Any) -> Try:
    """Run an activity that fails each time with this error. The run's own clock is moved on.

    Args:
        policy: what the participant made.
        error: the name of one of Python's exceptions.
        options: as of :func:`try_out`; ``until`` must end the tries of a policy without a limit.

    Raises:
        Off: it is no RetryPolicy, or a field of it is of the wrong kind.
        ValueError: the SDK refuses it.
    """
    _require_kinds(policy)
    message = PolicyMessage()
    policy.apply_to_proto(message)
    return try_out(Retried, message, error, activities=[always_fails], skip=MONTH, **options)


def _require_kinds(policy: Any) -> None:
    require(isinstance(policy, RetryPolicy), f"expected a RetryPolicy, got {short(policy)}")
    for name in ("initial_interval", "maximum_interval"):
        value = getattr(policy, name)
        right = isinstance(value, timedelta | None)
        require(right, f"expected a timedelta for {name}, got {short(value)}")
    types = policy.non_retryable_error_types or []
    require(not isinstance(types, str), f"expected a list of names, got {short(types)}")
    for kind in types:
        require(isinstance(kind, str), f"expected the names of errors as text, got {short(kind)}")


def attempts(tried: Try) -> list[int]:
    """When each attempt began, in whole seconds after the first, by the run's own clock."""
    return [round(moment) for moment in tried.attempts("always_fails")]

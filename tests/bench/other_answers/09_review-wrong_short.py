from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import effect, work


def last_step(folder: Path) -> int:
    """The last step that is saved, or -1."""
    return max(
        (int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.txt")), default=-1
    )


@activity.defn
def train(path: str, steps: int) -> int:
    """Trains step by step, saves each, and goes on where the last attempt has stopped."""
    folder = Path(path)
    for step in range(last_step(folder) + 1, steps):
        effect(step)
        work(0.03)
        (folder / f"step-{step}.txt").write_text("trained")
        activity.heartbeat(step)
    return steps


@workflow.defn
class Training:
    @workflow.run
    async def run(self, path: str, steps: int) -> int:
        return await workflow.execute_activity(
            train,
            args=[path, steps],
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1)),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

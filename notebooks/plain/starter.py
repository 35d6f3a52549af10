"""python starter.py FILE.csv starts a run; python starter.py FILE.csv yes decides it (or no)."""

import asyncio
import sys
from pathlib import Path

from worker import connect
from workflow import Pipeline


async def main(csv: str, decision: str = "") -> None:
    client, path = await connect(), Path(csv).resolve()
    if not decision:  # the id names the file: while that runs, a second start is refused
        await client.start_workflow(Pipeline.run, str(path), id=path.name, task_queue="plain")
        return
    run = client.get_workflow_handle_for(Pipeline.run, path.name)
    await run.signal(Pipeline.decide, decision == "yes")
    print(await run.result())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

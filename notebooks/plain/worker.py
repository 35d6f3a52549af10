"""python worker.py runs workflows and activities until Ctrl-C. Start as many as you like."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from activities import deploy, record, train
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker
from workflow import Pipeline


async def connect() -> Client:  # TEMPORAL_ADDRESS and its siblings, else a local server
    profile = ClientConfig.load_client_connect_config()
    return await Client.connect(**{"target_host": "localhost:7233", **profile})


def worker(client: Client) -> Worker:
    threads, steps = ThreadPoolExecutor(4), [train, record, deploy]
    return Worker(client, task_queue="plain", workflows=[Pipeline], activities=steps,
                  activity_executor=threads, max_concurrent_activities=4)  # fmt: skip


async def main() -> None:
    await worker(await connect()).run()


if __name__ == "__main__":
    asyncio.run(main())

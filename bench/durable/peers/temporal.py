"""Temporal: a worker of the Python SDK and the dev server with its SQLite file, both on the loopback interface.

Most of a step's time is a delay of the dev server's scheduling, not its speed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from bench.durable.job import Job, job
from bench.durable.peers.servers import HOST, PATIENCE, free_port, resident_mib, server
from bench.durable.peers.temporal_flow import Flow

AT_ONCE = 100


async def connect(port: int, process: subprocess.Popen[bytes]) -> Client:
    """A client once the server's namespace is there."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            client = await Client.connect(f"{HOST}:{port}")
            await client.service_client.check_health()
            return client
        except Exception:
            if process.poll() is not None or asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.05)


async def drive(job: Job, port: int, process: subprocess.Popen[bytes]) -> list[int]:
    """All runs at once; how far each counted."""

    @activity.defn(name="work")
    async def work(state: dict[str, Any]) -> dict[str, Any]:
        return job.body(state)

    client = await connect(port, process)
    most = {"max_concurrent_activities": AT_ONCE, "max_concurrent_workflow_tasks": AT_ONCE}
    async with Worker(client, task_queue="bench", workflows=[Flow], activities=[work], **most):
        with job.clock.running():
            return await asyncio.gather(
                *(
                    client.execute_workflow(
                        Flow.run, args=[job.state(run), job.steps], id=f"r-{run:06d}", task_queue="bench"
                    )
                    for run in range(job.runs)
                )
            )


def main() -> None:
    """Do the job and print its result."""
    work, port = job(), free_port()
    binary = os.path.join(os.path.dirname(sys.executable), "temporal")
    command = [binary, "server", "start-dev", "--headless", "--ip", HOST, "--port", str(port), "--log-level", "error"]
    with server([*command, "--db-filename", work.file("temporal.db")], work.file("server.log")) as process:
        counts = asyncio.run(drive(work, port, process))
        server_mib = resident_mib(process)
    work.done(counts, server_mib=server_mib)


if __name__ == "__main__":
    main()

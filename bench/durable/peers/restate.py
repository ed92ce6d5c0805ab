"""Restate: one node of its server, and a service of the Python SDK that journals every step with `ctx.run_typed`.

Service, client and server share this machine and talk over the loopback interface.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import urllib.request
from typing import Any

import httpx
import hypercorn
import hypercorn.asyncio
import restate

from bench.durable.job import Job, job
from bench.durable.peers.servers import HOST, OPENER, free_port, resident_mib, server, wait_for

CONFIG = """\
cluster-name = "bench"
node-name = "n0"
base-dir = "{folder}/n0"
auto-provision = true
default-num-partitions = 4
default-replication = 1
disable-telemetry = true
listen-mode = "tcp"
log-filter = "error"
shutdown-timeout = "10s"
rocksdb-total-memory-size = "512 MiB"
bind-address = "{host}:{fabric}"
advertised-address = "http://{host}:{fabric}/"

[metadata-client]
addresses = ["http://{host}:{fabric}/"]

[admin]
bind-address = "{host}:{admin}"
disable-web-ui = true

[ingress]
bind-address = "{host}:{ingress}"
"""


def service(job: Job) -> Any:
    """The service as an ASGI application."""
    bench = restate.Service("Bench")

    async def step(state: dict[str, Any]) -> dict[str, Any]:
        return job.body(state)

    @bench.handler()
    async def run(ctx: restate.Context, arg: dict[str, Any]) -> int:
        state = arg["state"]
        for n in range(arg["steps"]):
            state = await ctx.run_typed(f"s{n}", step, restate.RunOptions(), state)
        return int(state["n"])

    return restate.app([bench])


def register(admin: int, port: int) -> None:
    """Tell the server where the service is."""
    body = json.dumps({"uri": f"http://{HOST}:{port}", "force": True}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{HOST}:{admin}/deployments", body, headers, method="POST")
    OPENER.open(request, timeout=30).close()


async def drive(job: Job, ports: dict[str, int]) -> list[int]:
    """All runs at once; how far each counted. One call before the clock starts waits for the partitions' leaders."""
    config = hypercorn.Config()
    config.bind = [f"{HOST}:{ports['service']}"]
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = config.keep_alive_timeout = 2**31 - 1
    config.loglevel = "error"
    down = asyncio.Event()
    serving = asyncio.create_task(hypercorn.asyncio.serve(service(job), config, shutdown_trigger=down.wait))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(register, ports["admin"], ports["service"])
    url = f"http://{HOST}:{ports['ingress']}/Bench/run"
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, trust_env=False, limits=limits) as http:
        while (await http.post(url, json={"state": job.state(-1), "steps": 1})).status_code != 200:
            await asyncio.sleep(0.05)
        job.clock.entries.clear()
        calls = [http.post(url, json={"state": job.state(run), "steps": job.steps}) for run in range(job.runs)]
        with job.clock.running():
            answers = await asyncio.gather(*calls)
    down.set()
    await serving
    return [int(answer.raise_for_status().json()) for answer in answers]


def main() -> None:
    """Do the job and print its result. `RESTATE_SERVER` names the server's binary."""
    work = job()
    logging.getLogger("restate").setLevel(logging.CRITICAL)
    ports = {name: free_port() for name in ("fabric", "admin", "ingress", "service")}
    file = work.file("restate.toml")
    with open(file, "w") as out:
        out.write(CONFIG.format(folder=os.path.abspath(work.folder), host=HOST, **ports))
    command = [os.environ["RESTATE_SERVER"], "--no-logo", "--config-file", file]
    with server(command, work.file("server.log"), RESTATE_DISABLE_TELEMETRY="true") as process:
        for port, path in (("admin", "health"), ("ingress", "restate/health")):
            wait_for(f"http://{HOST}:{ports[port]}/{path}", process)
        counts = asyncio.run(drive(work, ports))
        server_mib = resident_mib(process)
    work.done(counts, server_mib=server_mib)


if __name__ == "__main__":
    main()

"""Drives PyPI `daytona` 0.226.1 (sync) while the api process is killed under it.

Every command kills the api that it was sent to, so the client's connection ends before
the first byte of an answer, which is when this client sends a request again.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import time
import urllib.request
from typing import Any

from daytona import Daytona, DaytonaConfig
from harness import failure, given, run_without_loop, scenario, tell_all

ROUNDS = 5
KILL = """
import os, pathlib, signal, sys
for each in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        parent = (each / "stat").read_text().rpartition(") ")[2].split()[1]
        words = (each / "cmdline").read_bytes()
    except OSError:
        continue
    if parent == sys.argv[1] and b"agent.api" in words:
        os.kill(int(each.name), signal.SIGKILL)
"""
COMMAND = (
    "echo begun {number} >> runs; python3 kill.py {keeper}; echo ended {number} >> runs"
)
WAIT = "until grep -q 'ended {number}' runs; do sleep 0.05; done"


async def attempt(sandbox: Any, command: str) -> dict[str, Any]:
    """Return what the client makes of a command that kills the api."""

    async def call() -> None:
        sandbox.process.exec(command)

    return await failure(call())


@scenario
async def execute(daytona: Any) -> dict[str, Any]:
    sandbox = daytona.create()
    sandbox.fs.upload_file(KILL.encode(), "kill.py")
    address = sandbox.download_url("kill.py")
    failures, served_s = [], []
    for number in range(ROUNDS):
        command = COMMAND.format(number=number, keeper=given["keeper"])
        failures.append(await attempt(sandbox, command))
        started = time.monotonic()
        sandbox.get_work_dir()
        served_s.append(time.monotonic() - started)
        sandbox.process.exec(WAIT.format(number=number), timeout=10)
    lines = sandbox.fs.download_file("runs").decode().splitlines()
    with urllib.request.urlopen(address) as answer:  # noqa: ASYNC210 - nothing waits
        signed = answer.read().decode() == KILL
    return {
        "failures": failures,
        "served": served_s,
        "lines": lines,
        "signed": signed,
    }


if __name__ == "__main__":
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    run_without_loop(tell_all(Daytona(config)))

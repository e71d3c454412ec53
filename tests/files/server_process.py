"""Serves the file routes in a process of its own, to be killed or measured by tests.

    python -m tests.files.server_process WORK_DIR STATE_DIR

Prints the port, and serves until it is killed.
"""

import asyncio
import sys
from pathlib import Path

from tests.files.conftest import serve


async def main(work_dir: Path, state_dir: Path) -> None:
    """Serve until the process ends."""
    async with serve(work_dir, state_dir) as agent:
        sys.stdout.write(f"{agent.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:3])))

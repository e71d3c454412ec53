"""How late small answers come while one heavy job runs."""

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.clients import fetch
from tests.bench.execute import execute_request
from tests.bench.git import asked, large
from tests.bench.listing import filled, list_request
from tests.bench.measure import Bench, Case, Row, at_most
from tests.bench.search import RARE, find_target, grown
from tests.bench.transfer import download_request, form_upload, raw_upload
from tests.support.agent import Agent, environment

PROBE = Path(__file__).parent / "probe.py"
INTERVAL_MS = 2
DURATION_S = 3.0
"""Each job is repeated for this long at least."""
ENTRIES = 100_000
FILES = 20_000
OUTPUT_BYTES = 200_000_000
P99_MAX_MS = 15.0
MAX_MS = 200.0

Job = Callable[[], object]


def stall(bench: Bench) -> Iterator[Row]:
    """Measure `GET /version` every 2 ms beside each heavy job."""
    directory = filled(bench.directory(), ENTRIES)
    with bench.agent() as agent:
        for name, job in jobs(agent, bench, directory):
            job()
            late_ms = watched(agent.port, job)
            p99_ms = late_ms[len(late_ms) * 99 // 100]
            bounded = name != "nothing"
            for what, value, bound in (
                ("p99", p99_ms, P99_MAX_MS),
                ("max", late_ms[-1], MAX_MS),
            ):
                yield Row(
                    name=f"{what} of GET /version while {name} runs",
                    ours=[value],
                    unit="ms",
                    goal=at_most(bound) if bounded else None,
                    note=f"{len(late_ms)} requests",
                )


def jobs(agent: Agent, bench: Bench, directory: Path) -> Iterator[tuple[str, Job]]:
    """Yield the heavy jobs; the first one is none, for comparison."""
    mib = bench.size_bytes // 1024 // 1024
    upload = agent.work_dir / "upload.bin"
    closing = {"Connection": "close"}
    output = execute_request(agent, f"yes | head -c {OUTPUT_BYTES}", **closing)
    download = download_request(agent, bench.large_file)
    listed = list_request(agent, directory)
    yield "nothing", lambda: time.sleep(DURATION_S)
    yield f"an upload of {mib} MiB", raw_upload(agent, bench, upload)
    yield f"a form upload of {mib} MiB", form_upload(agent, bench, upload)
    yield f"a download of {mib} MiB", lambda: fetch(agent.port, download)
    yield f"a listing of {ENTRIES}", lambda: fetch(agent.port, listed)
    yield (
        f"a command with {OUTPUT_BYTES // 1_000_000} MB of output",
        lambda: fetch(agent.port, output),
    )
    tree = grown(bench.directory(), FILES)
    yield (
        f"a find in {FILES} files",
        lambda: agent.request("GET", find_target(tree, RARE)),
    )
    yield "a large clone", cloning(agent, bench.directory())


def cloning(agent: Agent, root: Path) -> Job:
    """Return what clones a large repository, and removes the clone."""
    url = f"file://{large(root)}"
    numbers = itertools.count()

    def job() -> None:
        target = root / f"clone-{next(numbers)}"
        asked(agent, "clone", url=url, path=str(target))
        shutil.rmtree(target)

    return job


def watched(port: int, job: Job) -> list[float]:
    """Return, sorted, how long answers took while `job` was done again and again."""
    with subprocess.Popen(
        [sys.executable, "-I", str(PROBE), str(port), str(INTERVAL_MS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as probe:
        ends = time.monotonic() + DURATION_S
        while time.monotonic() < ends:
            job()
        took_ms: list[float] = json.loads(probe.communicate()[0])
    return sorted(took_ms)


CASES = (
    Case(
        name="stall",
        about="GET /version every 2 ms while transfers, a listing, a find, a clone run",
        run=stall,
        needs=("git",),
    ),
)

"""Small requests: how many a second one api answers on one processor."""

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from tests.bench.clients import wrk
from tests.bench.measure import Bench, Case, Row, at_least, interleaved, pin
from tests.bench.stand_ins import server

SERVER_CPU = 0
CLIENT_CPU = 1
ROUNDS_OF_COUNTING = 3
"""More than of others: a difference of three in a hundred is sought."""


def small(bench: Bench) -> Iterator[Row]:
    """Measure small routes against a bare aiohttp application."""
    with bench.agent() as agent, server("bare_aiohttp.py") as bare:
        pin([agent.pid, agent.api_pid(), bare.pid], SERVER_CPU)
        headers = agent.auth

        def ours(target: str, sent: Mapping[str, str]) -> float:
            return wrk(agent.port, target, sent, cpu=CLIENT_CPU)

        def limit(sent: Mapping[str, str]) -> float:
            return wrk(bare.port, "/version", sent, cpu=CLIENT_CPU)

        version, work_dir, plain, with_token = interleaved(
            bench.rounds,
            lambda: ours("/version", {}),
            lambda: ours("/work-dir", headers),
            lambda: limit({}),
            lambda: limit(headers),
        )
        target = f"/files/download?path={quote(str(bench.small_file))}"
        download, json = interleaved(
            bench.rounds,
            lambda: ours(target, headers),
            lambda: ours("/work-dir", headers),
        )
    yield _row("GET /version against bare aiohttp", version, plain, 0.85)
    yield _row("GET /work-dir with token against bare", work_dir, with_token, 0.85)
    yield _row("download of 4 KiB against GET /work-dir", download, json, 0.6)


def counted(bench: Bench) -> Iterator[Row]:
    """Measure what counting requests costs the small JSON route."""
    with server("counting.py", "yes") as ours, server("counting.py", "no") as bare:
        pin([ours.pid, bare.pid], SERVER_CPU)
        found, limit = interleaved(
            bench.rounds * ROUNDS_OF_COUNTING,
            lambda: wrk(ours.port, "/work-dir", {}, cpu=CLIENT_CPU),
            lambda: wrk(bare.port, "/work-dir", {}, cpu=CLIENT_CPU),
        )
    yield _row("small JSON counted against not counted", found, limit, 0.97)


def _row(name: str, ours: list[float], limit: list[float], bound: float) -> Row:
    return Row(name=name, ours=ours, limit=limit, unit="req/s", goal=at_least(bound))


CASES = (
    Case(
        name="small",
        about="small JSON and a 4 KiB download, 16 connections, one processor a side",
        run=small,
        needs=("wrk", "taskset"),
    ),
    Case(
        name="counting",
        about="what the numbers of /metrics cost the small JSON route",
        run=counted,
        needs=("wrk", "taskset"),
    ),
)

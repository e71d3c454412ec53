"""Large files down and up, against the plainest loops that move the same bytes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from tests.bench.clients import fetch, request, send_file
from tests.bench.measure import (
    MIB,
    Bench,
    Case,
    Row,
    at_least,
    at_most,
    interleaved,
    peak_growth,
    seconds,
)
from tests.bench.stand_ins import nginx, server
from tests.support.agent import Agent

BOUNDARY = "bench-0b6d9a4e"
CLOSE = {"Connection": "close"}
GROWTH_MAX_MIB = 16.0


def download_request(agent: Agent, path: Path) -> bytes:
    """Return the request that downloads a file."""
    target = f"/files/download?path={quote(str(path))}"
    return request(agent.port, "GET", target, {**agent.auth, **CLOSE})


def download(bench: Bench) -> Iterator[Row]:
    """Measure a large download against a sendfile loop."""
    with server("send_file.py", bench.large_file) as limit:
        asked = request(limit.port, "GET", "/", CLOSE)
        yield from _downloads(
            bench, "a sendfile loop", lambda: fetch(limit.port, asked)
        )


def download_nginx(bench: Bench) -> Iterator[Row]:
    """Measure a large download against nginx."""
    with nginx(bench.large_file.parent) as limit:
        asked = request(limit.port, "GET", f"/{bench.large_file.name}", CLOSE)
        yield from _downloads(bench, "nginx", lambda: fetch(limit.port, asked))


def _downloads(bench: Bench, against: str, limit: Callable[[], int]) -> Iterator[Row]:
    with bench.agent() as agent:
        asked = download_request(agent, bench.large_file)

        def ours() -> int:
            return fetch(agent.port, asked)

        # Whichever comes first finds the file's pages cold in the processor's caches.
        ours()
        found, least = interleaved(
            bench.rounds, lambda: _rate(bench, ours), lambda: _rate(bench, limit)
        )
        with peak_growth([agent.pid, agent.api_pid()]) as growth:
            ours()
    yield Row(
        name=f"download of {bench.size_bytes // MIB} MiB against {against}",
        ours=found,
        limit=least,
        unit="MB/s",
        goal=at_least(0.95),
    )
    yield _growth("download", growth)


def upload(bench: Bench) -> Iterator[Row]:
    """Measure large uploads, raw and in a form, against a receiving loop."""
    stored = bench.directory() / "limit.bin"
    with bench.agent() as agent, server("receive_file.py", stored) as limit:
        target = agent.work_dir / "upload.bin"
        head = request(limit.port, "POST", "/", CLOSE, length=bench.size_bytes)

        def receive() -> None:
            send_file(limit.port, head, bench.large_file)

        raw, form = raw_upload(agent, bench, target), form_upload(agent, bench, target)

        def measured(work: Callable[[], object], path: Path) -> float:
            # A file that is in the way would cost its removal, in ours and in the limit.
            path.unlink(missing_ok=True)
            rate = _rate(bench, work)
            assert path.stat().st_size == bench.size_bytes
            return rate

        growths: list[Row] = []
        for name, work in (("raw upload", raw), ("form upload", form)):
            with peak_growth([agent.pid, agent.api_pid()]) as growth:
                work()
            growths.append(_growth(name, growth))
        receive()
        raws, forms, least = interleaved(
            bench.rounds,
            lambda: measured(raw, target),
            lambda: measured(form, target),
            lambda: measured(receive, stored),
        )
    for name, found, bound in (("raw", raws, 0.5), ("multipart", forms, 0.4)):
        yield Row(
            name=f"{name} upload of {bench.size_bytes // MIB} MiB against recv + write",
            ours=found,
            limit=least,
            unit="MB/s",
            goal=at_least(bound),
        )
    yield from growths


def raw_upload(agent: Agent, bench: Bench, target: Path) -> Callable[[], None]:
    """Return a function that uploads the large file as a plain body."""
    path = f"/files/upload-v2?path={quote(str(target))}"
    head = request(
        agent.port,
        "POST",
        path,
        {**agent.auth, **CLOSE, "Content-Type": "application/octet-stream"},
        length=bench.size_bytes,
    )
    return lambda: send_file(agent.port, head, bench.large_file)


def form_upload(agent: Agent, bench: Bench, target: Path) -> Callable[[], None]:
    """Return a function that uploads the large file as the part of a form."""
    before = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    path = f"/files/upload-v2?path={quote(str(target))}"
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    length = len(before) + bench.size_bytes + len(after)
    head = request(
        agent.port, "POST", path, {**agent.auth, **CLOSE, **kind}, length=length
    )
    return lambda: send_file(
        agent.port, head, bench.large_file, before=before, after=after
    )


def _rate(bench: Bench, work: Callable[[], object]) -> float:
    """Return how fast `work` moves the large file, in MB/s."""
    return bench.size_bytes / seconds(work) / 1e6


def _growth(name: str, growth: list[int]) -> Row:
    return Row(
        name=f"peak growth of keeper + api: {name}",
        ours=[growth[0] / MIB],
        unit="MiB",
        goal=at_most(GROWTH_MAX_MIB),
    )


CASES = (
    Case(
        name="download",
        about="a large download against an os.sendfile loop",
        run=download,
        needs_root=True,
    ),
    Case(
        name="download-nginx",
        about="a large download against nginx with sendfile",
        run=download_nginx,
        needs=("nginx",),
        needs_root=True,
    ),
    Case(
        name="upload",
        about="large uploads, raw and multipart, against a recv_into + write loop",
        run=upload,
        needs_root=True,
    ),
)

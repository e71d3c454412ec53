"""What a real agent tells Prometheus, read by Prometheus' own parsers."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as families

from agent.web.counts import BOUNDS_S
from tests.support.agent import Agent, StartAgent
from tests.support.processes import wait_gone

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Iterable[Metric]) -> Samples:
    """Return the values by name and labels."""
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for metric in metrics
        for each in metric.samples
    }


def scrape(agent: Agent) -> Samples:
    """Return what the agent tells."""
    answer = agent.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return samples(families(answer.body.decode()))


def value(found: Samples, name: str, **labels: str) -> float:
    """Return one value; 0 when there is none."""
    return found.get((name, frozenset(labels.items())), 0.0)


def test_requests_are_counted_by_route_and_status(agent: Agent) -> None:
    for _ in range(3):
        assert agent.request("GET", "/work-dir").status == 200
    assert agent.request("GET", "/files/info?path=/no/such").status == 404
    assert agent.request("GET", "/toolbox/box/work-dir").status == 200
    assert agent.request("GET", "/secret-path-of-nobody").status == 404
    assert agent.request("GET", "/work-dir", auth=False).status == 401

    found = scrape(agent)

    route = {"method": "GET", "route": "/work-dir"}
    total = "toolbox_http_requests_total"
    duration = "toolbox_http_request_duration_seconds"
    assert value(found, total, **route, status="200") == 4
    missing = {"method": "GET", "route": "/files/info"}
    assert value(found, total, **missing, status="404") == 1
    assert value(found, total, method="GET", route="", status="404") == 1
    assert value(found, f"{duration}_count", **route) == 4
    assert 0 < value(found, f"{duration}_sum", **route) < 4
    classes = [
        value(found, f"{duration}_bucket", **route, le=str(bound))
        for bound in (*BOUNDS_S, "+Inf")
    ]
    assert classes == sorted(classes)
    assert classes[-1] == 4
    assert not [name for name in map(str, found) if "secret-path" in name]


def test_a_call_that_was_refused_counts_for_no_route(agent: Agent) -> None:
    before = scrape(agent)
    assert agent.request("GET", "/user-home-dir", auth=False).status == 401
    after = scrape(agent)

    name = "toolbox_http_requests_total"
    labels = {"method": "GET", "route": "", "status": "401"}
    assert value(after, name, **labels) == value(before, name, **labels) + 1


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_bytes_are_counted_in_both_directions(agent: Agent, size: int) -> None:
    path = agent.work_dir / "content"
    content = os.urandom(size)

    sent = agent.request("POST", f"/files/upload-v2?path={path}", content)
    assert sent.status == 200
    assert agent.request("GET", f"/files/download?path={path}").body == content

    found = scrape(agent)
    upload = {"method": "POST", "route": "/files/upload-v2"}
    download = {"method": "GET", "route": "/files/download"}
    assert value(found, "toolbox_http_received_bytes_total", **upload) == size
    assert value(found, "toolbox_http_sent_bytes_total", **download) == size


def test_what_runs_is_counted_by_kind(agent: Agent) -> None:
    def running() -> dict[str, float]:
        return {
            dict(labels)["kind"]: count
            for (name, labels), count in scrape(agent).items()
            if name == "toolbox_running"
        }

    assert set(running().values()) == {0}
    for path, body in (
        ("/process/session", {"sessionId": "s"}),
        ("/process/pty", {"id": "p", "cols": 80, "rows": 24}),
        ("/process/interpreter/context", {}),
    ):
        assert agent.request("POST", path, body).status in {200, 201}
    assert agent.execute("sleep 60 >/dev/null 2>&1 & true").status == 200
    with agent.connection() as connection:
        connection.sendall(
            f"GET /files/watch?path={agent.work_dir} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {agent.token}\r\n\r\n".encode()
        )
        assert connection.recv(12) == b"HTTP/1.1 200"

        now = running()

    assert now["session"] == 1
    assert now["context"] == 1
    assert now["watch"] == 1
    assert now["language_server"] == 0
    assert agent.request("DELETE", "/process/session/s").status == 204
    assert running()["session"] == 0


def test_both_processes_and_the_loop_are_told_of(agent: Agent) -> None:
    found = scrape(agent)

    for process, pid in (("api", agent.api_pid()), ("keeper", agent.pid)):
        labels = {"process": process}
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        memory = value(found, "toolbox_process_resident_memory_bytes", **labels)
        assert memory == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.3)
        assert value(found, "toolbox_process_cpu_seconds_total", **labels) > 0
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        told = value(found, "toolbox_process_open_fds", **labels)
        assert told == pytest.approx(descriptors, abs=4)
    assert 0 <= value(found, "toolbox_event_loop_lag_seconds") < 1
    assert value(found, "toolbox_uptime_seconds") > 0
    assert value(found, "toolbox_http_requests_in_flight") == 1


def test_restarts_and_dropped_bytes_are_counted(start_agent: StartAgent) -> None:
    agent = start_agent("--result-max-bytes", "65536")
    assert value(scrape(agent), "toolbox_api_restarts_total") == 0
    assert agent.execute("head -c 1000000 /dev/zero").status == 200

    assert value(scrape(agent), "toolbox_dropped_bytes_total") > 900_000
    old = agent.api_pid()
    os.kill(old, 9)
    assert wait_gone(old)

    found = scrape(agent)
    assert value(found, "toolbox_api_restarts_total") == 1
    counted = sum(
        count for (name, _), count in found.items() if name.endswith("requests_total")
    )
    assert counted < 2


def test_open_metrics_comes_to_who_asks_for_it(agent: Agent) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}

    answer = agent.request("GET", "/metrics", headers=accept)

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")
    found = samples(open_metrics(answer.body.decode()))  # type: ignore[no-untyped-call]
    assert ("toolbox_running", frozenset({("kind", "pty")})) in found


def test_a_stream_of_events_has_no_duration(agent: Agent) -> None:
    with agent.connection() as connection:
        connection.sendall(
            f"GET /events HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {agent.token}\r\n\r\n".encode()
        )
        while b"event: hello" not in connection.recv(65536):
            pass
    labels = {"method": "GET", "route": "/events"}

    found = scrape(agent)
    while not value(found, "toolbox_http_requests_total", **labels, status="200"):
        if value(found, "toolbox_http_requests_total", **labels, status="499"):
            break
        agent.execute("true")
        found = scrape(agent)

    count = value(found, "toolbox_http_request_duration_seconds_count", **labels)
    assert count == 0


def test_it_takes_the_token(agent: Agent) -> None:
    assert agent.request("GET", "/metrics", auth=False).status == 401
    assert agent.request("HEAD", "/metrics").status == 200

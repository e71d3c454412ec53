"""What a real agent exports to a collector of the test's own, over OTLP."""

import gzip
import http.server
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from agent.settings import Settings
from agent.system.telemetry.export import labels
from agent.system.telemetry.gauges import HOST
from agent.system.telemetry.telemetry import Telemetry
from agent.version import VERSION
from tests.support.agent import Agent, StartAgent
from tests.support.processes import wait_gone

SHAPES: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
GAUGES = {
    f"daytona.sandbox.{name}"
    for name in (
        "cpu.limit",
        "cpu.utilization",
        "memory.limit",
        "memory.usage",
        "memory.utilization",
        "filesystem.usage",
        "filesystem.total",
        "filesystem.available",
        "filesystem.utilization",
    )
}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Said = tuple[str, str, Any]


class Collector:
    """A collector: what it was sent, as path, token and message."""

    def __init__(self) -> None:
        self.heard: Queue[Said] = Queue()
        self.raw: list[tuple[str, bytes]] = []
        heard, raw = self.heard, self.raw

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                raw.append((self.path, body))
                message = SHAPES[self.path]()
                message.ParseFromString(body)
                token = self.headers.get("sandbox-auth-token", "")
                heard.put((self.path, token, message))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def until(self, path: str, wanted: Callable[[Any], object]) -> tuple[str, Any]:
        """Return the token and message of the first one that is wanted."""
        while True:
            heard_path, token, message = self.heard.get(timeout=20)
            if heard_path == path and wanted(message):
                return token, message


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    made = Collector()
    yield made
    made.close()


def start(start_agent: StartAgent, url: str, *words: str, **env: str) -> Agent:
    """Start an agent that is to export."""
    variables = {
        "DAYTONA_OTEL_ENDPOINT": url,
        "DAYTONA_SANDBOX_ID": "box-7",
        "DAYTONA_ORGANIZATION_ID": "org-1",
        "DAYTONA_REGION_ID": "eu",
        "DAYTONA_SANDBOX_SNAPSHOT": "snap:2",
        "DAYTONA_SANDBOX_OTEL_EXTRA_LABELS": "team=blue,broken,=x,tier = gold",
    }
    return start_agent(*words, env={**variables, **env})


def init(agent: Agent, token: str = "collector-token") -> int:
    """Give the token; return the status."""
    return agent.request("POST", "/init", {"token": token}).status


def attributes(found: Any) -> dict[str, str | int]:
    """Return attributes as a dictionary."""
    return {
        each.key: each.value.string_value or each.value.int_value
        for each in found.attributes
    }


def spans(message: Any) -> list[Any]:
    """Return the spans of a message."""
    return [
        span
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def lines(message: Any) -> list[Any]:
    """Return the log records of a message."""
    return [
        record
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def test_requests_are_spans_of_the_callers_trace(
    start_agent: StartAgent, collector: Collector
) -> None:
    agent = start(start_agent, collector.url)
    assert init(agent) == 200
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": "a=b"}
    answer = agent.request("GET", "/files/info?path=/no/such", headers=headers)
    assert answer.status == 404
    agent.stop()

    token, message = collector.until(
        "/v1/traces",
        lambda each: [s for s in spans(each) if s.name == "GET /files/info"],
    )

    (span,) = [each for each in spans(message) if each.name == "GET /files/info"]
    assert token == "collector-token"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.kind == span.SPAN_KIND_SERVER
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 20e9
    assert abs(span.end_time_unix_nano / 1e9 - time.time()) < 60
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.response.status_code": 404,
        "http.route": "/files/info",
    }
    resource = attributes(message.resource_spans[0].resource)
    assert {name: resource[name] for name in resource if "sdk" not in name} == {
        "service.name": "sandbox-box-7",
        "service.version": VERSION,
        "service.instance.id": os.uname().nodename,
        "deployment.environment.name": "sandbox",
        "daytona_organization_id": "org-1",
        "daytona_region_id": "eu",
        "daytona_snapshot": "snap:2",
        "team": "blue",
        "tier": "gold",
    }


def test_metrics_have_the_official_names_and_those_of_opentelemetry(
    start_agent: StartAgent, collector: Collector
) -> None:
    agent = start(start_agent, collector.url)
    assert init(agent) == 200
    agent.stop()

    _, message = collector.until("/v1/metrics", lambda _: True)

    found = {
        metric.name: metric
        for resource in message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {name for name in found if name.startswith("daytona.")} == GAUGES
    values = {}
    for name in GAUGES:
        (point,) = found[name].gauge.data_points
        values[name] = point.as_double or point.as_int
        is_disk = "filesystem" in name
        assert attributes(point) == ({"device": "/"} if is_disk else {})
    assert values["daytona.sandbox.memory.usage"] > 1_000_000
    assert 0 < values["daytona.sandbox.memory.utilization"] <= 100
    assert 0 < values["daytona.sandbox.filesystem.utilization"] <= 100
    # The library asks for one of its metrics by another name.
    dropped = {"system.network.dropped.packets": "system.network.dropped_packets"}
    assert set(found) - GAUGES == {dropped.get(name, name) for name in HOST}
    (memory,) = found["process.memory.usage"].sum.data_points
    assert 10e6 < memory.as_int < 1e9


def test_log_lines_and_the_entrypoints_output_are_exported(
    start_agent: StartAgent, collector: Collector
) -> None:
    entrypoint = "echo from the entrypoint; printf 'no end' >&2; echo >&2; sleep 60"
    agent = start(start_agent, collector.url, "--", "sh", "-c", entrypoint)
    assert init(agent) == 200
    assert agent.execute("true").status == 200
    agent.stop()

    wanted = {"from the entrypoint", "no end", "request"}
    found: dict[str, Any] = {}
    while not wanted <= set(found):
        _, message = collector.until("/v1/logs", lines)
        found |= {each.body.string_value: each for each in lines(message)}

    said = attributes(found["from the entrypoint"])
    assert said == {"log.iostream": "stdout", "source": "entrypoint"}
    assert attributes(found["no end"])["log.iostream"] == "stderr"
    assert str(attributes(found["request"])["route"]).startswith("/")


def test_nothing_secret_and_no_proxied_request_is_exported(
    start_agent: StartAgent, collector: Collector
) -> None:
    agent = start(start_agent, collector.url, CANARY_VALUE="canary-environment")
    assert init(agent) == 200
    headers = {"Cookie": "c=canary-cookie", "X-Daytona-Source": "canary-source"}
    for path in (
        "/files/info?path=/canary-query",
        "/proxy/1/canary-proxied",
        "/canary-no-route",
    ):
        assert agent.request("GET", path, headers=headers).status in {404, 502}
    assert agent.execute("echo canary-command", env={"A": "canary-value"}).status == 200
    agent.request("GET", "/work-dir", headers={"Authorization": "Bearer canary-bearer"})
    agent.stop()
    collector.until("/v1/traces", lambda each: "POST /process/execute" in str(each))

    everything = b"".join(body for _, body in collector.raw)
    traces = b"".join(body for path, body in collector.raw if path == "/v1/traces")
    assert b"canary" not in everything
    assert b"/proxy/" not in traces
    assert agent.token.encode() not in everything
    assert b"collector-token" not in everything


def test_another_token_ends_the_earlier_export(
    start_agent: StartAgent, collector: Collector
) -> None:
    agent = start(start_agent, collector.url)
    assert init(agent, "first") == 200
    assert agent.request("GET", "/work-dir").status == 200
    assert init(agent, "second") == 200

    token, _ = collector.until("/v1/traces", lambda each: "GET /work-dir" in str(each))
    assert token == "first"
    assert agent.request("GET", "/user-home-dir").status == 200
    agent.stop()
    token, _ = collector.until(
        "/v1/traces", lambda each: "GET /user-home-dir" in str(each)
    )
    assert token == "second"


def test_the_next_api_goes_on_with_the_token(
    start_agent: StartAgent, collector: Collector
) -> None:
    agent = start(start_agent, collector.url)
    assert init(agent, "kept") == 200
    old = agent.api_pid()
    os.kill(old, 9)
    assert wait_gone(old)

    assert agent.request("GET", "/work-dir").status == 200
    agent.stop()

    token, _ = collector.until("/v1/traces", lambda each: "GET /work-dir" in str(each))
    assert token == "kept"


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_a_collector_that_is_away_harms_nobody(
    start_agent: StartAgent, kind: str
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        if kind == "refuses":
            listener.close()
        agent = start(start_agent, f"http://127.0.0.1:{port}")
        assert init(agent) == 200
        for _ in range(200):
            assert agent.request("GET", "/work-dir").status == 200
        began = time.monotonic()
        agent.stop()

    assert time.monotonic() - began < 6
    complaints = [
        line for line in agent.log().splitlines() if "telemetry is not exported" in line
    ]
    assert len(complaints) <= 2
    assert "Traceback" not in agent.log()


@pytest.mark.parametrize(
    ("url", "token", "status"),
    [
        ("", "any", 200),
        ("ftp://nowhere", "any", 400),
        ("http://127.0.0.1:9", "line\nend", 400),
    ],
)
def test_a_set_up_that_cannot_work_is_refused(
    start_agent: StartAgent, url: str, token: str, status: int
) -> None:
    agent = start(start_agent, url)

    assert init(agent, token) == status
    assert agent.request("GET", "/work-dir").status == 200


def test_nothing_of_it_is_loaded_without_an_endpoint(agent: Agent) -> None:
    assert init(agent) == 200
    assert agent.request("GET", "/work-dir").status == 200

    maps = Path(f"/proc/{agent.api_pid()}/maps").read_text()
    assert "google/_upb" not in maps


async def test_without_the_packages_nothing_is_exported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = Settings(otel_endpoint="http://127.0.0.1:9")
    # Neither is asked for anything.
    nobody: Any = None
    telemetry = Telemetry(settings, nobody, nobody)

    await telemetry.begin("token")

    assert not telemetry.is_wanted
    assert "the extra `otel` is not installed" in caplog.text
    await telemetry.aclose()


def test_labels_that_make_no_sense_are_skipped() -> None:
    found = labels(Settings(sandbox_id="x", otel_labels="a=1,,=2,b,c=,d=e=f"))

    assert {name: found[name] for name in "ad"} == {"a": "1", "d": "e=f"}
    assert "daytona_region_id" not in found
    assert not {"b", "c", ""} & set(found)

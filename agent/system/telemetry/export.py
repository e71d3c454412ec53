"""Traces, metrics and logs by OTLP over HTTP, named as the official daemon names them.

Imported late: OpenTelemetry is a third of a second and 20 MiB. Nothing here has a path,
a query, a header, a body, a command or a value of the environment in it; log lines have
every live secret taken out (`agent/web/log.py`).
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent.settings import Settings
from agent.system.telemetry.gauges import add_metrics
from agent.version import VERSION
from agent.web.log import Redactor

TOKEN_HEADER = "sandbox-auth-token"  # noqa: S105 - the header's name
EXPORT_LIMIT_S = 5.0
"""Of one request to the collector."""
PERIOD_MS = 60_000
"""Between two exports of metrics."""
QUEUE_MAX = 2048
"""Spans, and log lines, that wait for the collector; more are dropped."""
COMPLAINT_PERIOD_S = 60.0
"""A collector that is away is told of no more often."""
UNTRACED = "/proxy/"
SERVER_ERROR = 500

SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}

log = logging.getLogger("agent.telemetry")


class Export:
    """One export, from its set-up to its end.

    Args:
        settings: What the sandbox is called, and what must not be told.
        endpoint: The collector's base URL.
        token: Shown to it with every request.
    """

    def __init__(self, settings: Settings, endpoint: str, token: str) -> None:
        headers = {TOKEN_HEADER: token}
        resource = Resource.create(labels(settings))

        def options(signal: str) -> dict[str, Any]:
            url = f"{endpoint}/v1/{signal}"
            return {"endpoint": url, "headers": headers, "timeout": EXPORT_LIMIT_S}

        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(**options("traces")), max_queue_size=QUEUE_MAX
            )
        )
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(
            BatchLogRecordProcessor(
                OTLPLogExporter(**options("logs")), max_queue_size=QUEUE_MAX
            )
        )
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(**options("metrics")),
            export_interval_millis=PERIOD_MS,
            export_timeout_millis=EXPORT_LIMIT_S * 1000,
        )
        self._metrics = MeterProvider(
            metric_readers=[reader], resource=resource, shutdown_on_exit=False
        )
        self._end_host_metrics = add_metrics(self._metrics)
        self._tracer = self._traces.get_tracer("toolbox-agent", VERSION)
        self._logger = self._logs.get_logger("toolbox-agent", VERSION)
        self._propagator = CompositePropagator(
            [TraceContextTextMapPropagator(), W3CBaggagePropagator()]
        )
        secrets = (settings.token, settings.signing_key, token)
        self._handler = _Handler(self._emit, Redactor(*secrets))
        self._redactor = Redactor(*secrets)
        logging.getLogger("agent").addHandler(self._handler)
        self._complaints = _quieten()

    def request(
        self,
        method: str,
        headers: Mapping[str, str],
        template: str,
        status: int,
        seconds: float,
    ) -> None:
        """Tell of a request that was answered; `template` is its route's."""
        if template.startswith(UNTRACED):
            return
        now = time.time_ns()
        context: Context = self._propagator.extract(headers)
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.response.status_code": status,
        }
        if template:
            attributes["http.route"] = template
        span = self._tracer.start_span(
            f"{method} {template}".rstrip(),
            context=context,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=now - int(seconds * 1e9),
        )
        if status >= SERVER_ERROR:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        span.end(now)

    def output(self, stream: str, at_s: float, text: str) -> None:
        """Tell a line of the entrypoint's."""
        self._emit(
            self._redactor.clean(text),
            at_s,
            logging.INFO,
            {"log.iostream": stream, "source": "entrypoint"},
        )

    def end(self) -> None:
        """Export what waits, and stop; blocks as long as the collector lets it."""
        logging.getLogger("agent").removeHandler(self._handler)
        providers: list[Callable[[], object]] = [
            self._traces.shutdown,
            self._logs.shutdown,
            self._metrics.shutdown,
        ]
        # All at once: one that hangs takes the time of none of the others.
        self._end_host_metrics()
        threads = [threading.Thread(target=each, daemon=True) for each in providers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._complaints()

    def _emit(
        self, text: str, at_s: float, level: int, attributes: dict[str, str]
    ) -> None:
        self._logger.emit(
            LogRecord(
                timestamp=int(at_s * 1e9),
                observed_timestamp=time.time_ns(),
                severity_number=SEVERITIES.get(level, SeverityNumber.INFO),
                severity_text=logging.getLevelName(level),
                body=text,
                attributes=attributes,
            )
        )


def labels(settings: Settings) -> dict[str, str]:
    """Return what the resource is called; malformed pairs of labels are skipped."""
    found = {
        "service.name": f"sandbox-{settings.sandbox_id}",
        "service.version": VERSION,
        "service.instance.id": socket.gethostname(),
        "deployment.environment.name": settings.otel_environment,
        "daytona_organization_id": settings.organization_id,
        "daytona_region_id": settings.region_id,
        "daytona_snapshot": settings.snapshot,
    }
    for pair in settings.otel_labels.split(","):
        name, is_pair, value = pair.partition("=")
        if is_pair and name.strip() and value.strip():
            found[name.strip()] = value.strip()
    return {name: value for name, value in found.items() if value}


class _Handler(logging.Handler):
    """Gives the agent's log lines to the export."""

    def __init__(
        self,
        emit: Callable[[str, float, int, dict[str, str]], None],
        redactor: Redactor,
    ) -> None:
        super().__init__()
        self._emit = emit
        self._redactor = redactor

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one line."""
        facts = {"logger": record.name, **getattr(record, "facts", {})}
        self._emit(
            self._redactor.clean(record.getMessage()),
            record.created,
            record.levelno,
            {
                name: self._redactor.clean(str(value))
                for name, value in facts.items()
                if value is not None
            },
        )


def _quieten() -> Callable[[], None]:
    """Have the exporters' complaints in our own log, now and then; return the undoing."""
    theirs = logging.getLogger("opentelemetry")
    handler = _Complaints()
    theirs.addHandler(handler)
    theirs.propagate = False

    def undo() -> None:
        with contextlib.suppress(ValueError):
            theirs.removeHandler(handler)

    return undo


class _Complaints(logging.Handler):
    """Says that the collector is not to be reached, without what it was sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell once a minute that there is a complaint."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + COMPLAINT_PERIOD_S
            log.warning("telemetry is not exported (%s)", record.name)

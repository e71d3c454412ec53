"""Shows figures in the formats of Prometheus.

Imported late: the first scrape pays for it, and no agent that is not scraped.
"""

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from agent.metrics.figures import Figures
from agent.web.counts import BOUNDS_S, Tally

KEEPER_COUNTERS = {
    "bytes_pumped": (
        "toolbox_output_bytes",
        "Output of commands, terminals and contexts that the keeper has read.",
    ),
    "bytes_dropped": (
        "toolbox_dropped_bytes",
        "Output beyond the limit of what is kept.",
    ),
    "api_restarts": ("toolbox_api_restarts", "Times the api was started again."),
    "orphans_reaped": ("toolbox_orphans_reaped", "Processes without a parent reaped."),
}
KEEPER_GAUGES = {
    "jobs": ("toolbox_jobs", "Jobs that the keeper knows, ended ones included."),
    "memory_bytes": ("toolbox_kept_output_bytes", "Output that is held in memory."),
    "uptime_s": ("toolbox_uptime_seconds", "Since the keeper was started."),
}


def show(figures: Figures, accept: str) -> tuple[bytes, str]:
    """Return the text that a client accepts, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Once(figures))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once(Collector):
    """Gives what is known already."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        yield from _requests(figures.tallies)
        yield from _processes(figures)
        yield from _keeper(figures.keeper)
        info = GaugeMetricFamily(
            "toolbox_agent_info", "The agent; always 1.", labels=("version",)
        )
        info.add_metric((figures.version,), 1)
        yield info
        running = GaugeMetricFamily(
            "toolbox_running", "How many there are just now.", labels=("kind",)
        )
        for kind, count in sorted(figures.running.items()):
            running.add_metric((kind,), count)
        yield running
        yield GaugeMetricFamily(
            "toolbox_http_requests_in_flight",
            "Requests being answered, open websockets included.",
            value=figures.in_flight,
        )
        yield GaugeMetricFamily(
            "toolbox_event_loop_lag_seconds",
            "How long the event loop took to come round at this scrape.",
            value=figures.lag_s,
        )


def _requests(tallies: dict[tuple[str, str], Tally]) -> Iterator[Metric]:
    names = ("method", "route")
    requests = CounterMetricFamily(
        "toolbox_http_requests",
        "Requests by the route's template; without one, there was no such route.",
        labels=(*names, "status"),
    )
    durations = HistogramMetricFamily(
        "toolbox_http_request_duration_seconds",
        "Until the handler was done; of streams of events and upgrades, none.",
        labels=names,
    )
    received = CounterMetricFamily(
        "toolbox_http_received_bytes", "Bodies of requests.", labels=names
    )
    sent = CounterMetricFamily(
        "toolbox_http_sent_bytes", "Bodies of answers.", labels=names
    )
    for key, tally in sorted(tallies.items()):
        for status, count in sorted(tally.statuses.items()):
            requests.add_metric((*key, str(status)), count)
        durations.add_metric(key, _cumulated(tally.classes), tally.seconds)
        received.add_metric(key, tally.received)
        sent.add_metric(key, tally.sent)
    yield from (requests, durations, received, sent)


def _cumulated(classes: list[int]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*BOUNDS_S, "+Inf"), classes, strict=True):
        total += count
        found.append((str(bound), total))
    return found


def _processes(figures: Figures) -> Iterator[Metric]:
    names = ("process",)
    memory = GaugeMetricFamily(
        "toolbox_process_resident_memory_bytes", "Resident memory.", labels=names
    )
    cpu = CounterMetricFamily(
        "toolbox_process_cpu_seconds", "User and system time.", labels=names
    )
    descriptors = GaugeMetricFamily(
        "toolbox_process_open_fds", "Open descriptors.", labels=names
    )
    for process in figures.processes:
        memory.add_metric((process.name,), process.memory_bytes)
        cpu.add_metric((process.name,), process.cpu_s)
        descriptors.add_metric((process.name,), process.descriptors)
    yield from (memory, cpu, descriptors)


def _keeper(numbers: dict[str, int | float]) -> Iterator[Metric]:
    for key, (name, text) in KEEPER_COUNTERS.items():
        if key in numbers:
            yield CounterMetricFamily(name, text, value=numbers[key])
    for key, (name, text) in KEEPER_GAUGES.items():
        if key in numbers:
            yield GaugeMetricFamily(name, text, value=numbers[key])

"""The metrics that are exported: the sandbox's, its host's and the agent's own process's."""

import time
from collections.abc import Callable, Iterable, Iterator

from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider

from agent.system.metrics import ControlGroup, Meter
from agent.system.models import Metrics
from agent.version import VERSION

HOST: dict[str, list[str] | None] = {
    "system.cpu.time": ["idle", "user", "system", "irq"],
    "system.cpu.utilization": ["idle", "user", "system", "irq"],
    "system.memory.usage": ["used", "free", "cached"],
    "system.memory.utilization": ["used", "free", "cached"],
    "system.disk.io": ["read", "write"],
    "system.disk.operations": ["read", "write"],
    "system.network.io": ["transmit", "receive"],
    "system.network.packets": ["transmit", "receive"],
    "system.network.errors": ["transmit", "receive"],
    "system.network.dropped.packets": ["transmit", "receive"],
    "process.context_switches": ["involuntary", "voluntary"],
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.open_file_descriptor.count": None,
    "process.thread.count": None,
    "cpython.gc.collections": None,
    "cpython.gc.collected_objects": None,
    "cpython.gc.uncollectable_objects": None,
}
"""What OpenTelemetry's own collection tells. Without the sandbox's connections and
threads: counting those looks at every process there is."""


def add_metrics(provider: MeterProvider) -> Callable[[], None]:
    """Have all metrics measured at each export; return what undoes it."""
    _add_gauges(provider)
    host = SystemMetricsInstrumentor(config=HOST)
    host.instrument(meter_provider=provider, skip_dep_check=True)
    undo: Callable[[], None] = host.uninstrument
    return undo


def _add_gauges(provider: MeterProvider) -> None:
    meter = provider.get_meter("toolbox-agent", VERSION)
    measured = _Measured()
    disk = {"device": "/"}

    def cpu_limit() -> float:
        return ControlGroup().cpu_limit() or float(measured.now().cpu_count)

    def memory_pct() -> float:
        now = measured.now()
        return 100 * now.mem_used / now.mem_total if now.mem_total else 0.0

    def disk_pct() -> float:
        now = measured.now()
        return 100 * now.disk_used / now.disk_total if now.disk_total else 0.0

    gauges: Iterable[tuple[str, str, Callable[[], float], dict[str, str]]] = (
        ("cpu.limit", "{cpu}", cpu_limit, {}),
        ("cpu.utilization", "%", lambda: measured.now().cpu_used_pct, {}),
        ("memory.limit", "By", lambda: measured.now().mem_total, {}),
        ("memory.usage", "By", lambda: measured.now().mem_used, {}),
        ("memory.utilization", "%", memory_pct, {}),
        ("filesystem.usage", "By", lambda: measured.now().disk_used, disk),
        ("filesystem.total", "By", lambda: measured.now().disk_total, disk),
        ("filesystem.available", "By", lambda: measured.now().disk_free, disk),
        ("filesystem.utilization", "%", disk_pct, disk),
    )
    for name, unit, read, attributes in gauges:
        meter.create_observable_gauge(
            f"daytona.sandbox.{name}",
            callbacks=[_observing(read, attributes)],
            unit=unit,
        )


def _observing(
    read: Callable[[], float], attributes: dict[str, str]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        yield Observation(read(), attributes)

    return observe


class _Measured:
    """The sandbox's metrics, measured once for all gauges of an export."""

    FRESH_S = 1.0

    def __init__(self) -> None:
        self._meter = Meter()
        self._at_s = 0.0
        self._last: Metrics | None = None

    def now(self) -> Metrics:
        """Return what was measured within the last second."""
        now_s = time.monotonic()
        if self._last is None or now_s - self._at_s > self.FRESH_S:
            self._last = self._meter.measure()
            self._at_s = now_s
        return self._last

"""Use of processor, memory and disk, as the sandbox's own limits see them.

A container's limits are its control group's, v2 or v1, not the host's; both are read
here, from a root that a test can set. An unreadable source gives 0 for its field, never
an error. Limits are read anew each time, since they can be changed on a running sandbox.
"""

import math
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent.system.models import Metrics

UNLIMITED_BYTES = 0x7FFFFFFFFFFFF000
"""A v1 memory limit of this or more means none (contract 05)."""
FIRST_WINDOW_S = 0.1
"""How long the first request looks, having no earlier one to compare with."""


class Sample(msgspec.Struct, frozen=True):
    """Processor time used so far, and when that was read (monotonic)."""

    at_s: float
    used_s: float


class Memory(msgspec.Struct, frozen=True):
    """Memory of the sandbox in bytes; a total of 0 means that it is not known."""

    used: int
    total: int
    cache: int


class ControlGroup:
    """The control group of this sandbox.

    Args:
        root: Where the hierarchy is mounted.
    """

    def __init__(self, root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = root
        self._is_v2 = (root / "cgroup.controllers").exists()

    def cpu_limit(self) -> float | None:
        """Return the quota in cores, or None when there is none."""
        if self._is_v2:
            quota, _, period = self._text("cpu.max").partition(" ")
        else:
            quota = self._text("cpu/cpu.cfs_quota_us")
            period = self._text("cpu/cpu.cfs_period_us")
        if not quota.isdigit() or not period.isdigit() or int(period) == 0:
            return None
        return int(quota) / int(period)

    def cpu_used_s(self) -> float:
        """Return the processor time used so far in seconds."""
        if self._is_v2:
            return self._entry("cpu.stat", "usage_usec") / 1e6
        return self._number("cpuacct/cpuacct.usage") / 1e9

    def memory(self) -> Memory:
        """Return use, limit (0: none) and page cache in bytes."""
        if self._is_v2:
            limit = self._number("memory.max")
            used = self._number("memory.current")
            cache = self._entry("memory.stat", "file")
        else:
            limit = self._number("memory/memory.limit_in_bytes")
            used = self._number("memory/memory.usage_in_bytes")
            cache = self._entry("memory/memory.stat", "cache")
        return Memory(used, 0 if limit >= UNLIMITED_BYTES else limit, cache)

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text().strip()
        except OSError:
            return ""

    def _number(self, name: str) -> int:
        text = self._text(name)
        return int(text) if text.isdigit() else 0

    def _entry(self, name: str, key: str) -> int:
        """Return one value of a file of `key value` lines."""
        for line in self._text(name).splitlines():
            found, _, value = line.partition(" ")
            if found == key and value.isdigit():
                return int(value)
        return 0


class Meter:
    """Measures the sandbox on request; nothing runs in between.

    Args:
        group: The control group to read.
        disk: A path on the file system that is told of.
        clock: A monotonic clock in seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        group: ControlGroup | None = None,
        disk: str = "/",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._group = group or ControlGroup()
        self._disk = disk
        self._clock = clock
        self._sleep = sleep
        self._last: Sample | None = None

    def measure(self) -> Metrics:
        """Return the metrics of now; the processor's since the previous call.

        Blocks for the first window on the first call: run it in a thread.
        """
        cores = self._group.cpu_limit() or float(os.cpu_count() or 1)
        if self._last is None:
            self._last = self._sample()
            self._sleep(FIRST_WINDOW_S)
        sample = self._sample()
        used_pct = _percent(self._last, sample, cores)
        self._last = sample
        memory = self._memory()
        disk_used, disk_total, disk_free = self._disk_bytes()
        now = datetime.now(UTC).replace(microsecond=0)
        return Metrics(
            timestamp=now.isoformat().replace("+00:00", "Z"),
            timestamp_unix=int(now.timestamp()),
            cpu_count=math.ceil(cores),
            cpu_used_pct=used_pct,
            mem_used=memory.used,
            mem_total=memory.total,
            mem_cache=memory.cache,
            disk_used=disk_used,
            disk_total=disk_total,
            disk_free=disk_free,
        )

    def _sample(self) -> Sample:
        return Sample(self._clock(), self._group.cpu_used_s())

    def _memory(self) -> Memory:
        """Return the group's memory, with the host's total when it has no limit."""
        memory = self._group.memory()
        if memory.used and memory.total:
            return memory
        # Late, because starting the agent must not pay for it.
        import psutil  # noqa: PLC0415

        host = psutil.virtual_memory()
        if not memory.used:
            return Memory(host.total - host.available, host.total, host.cached)
        # Without a limit a total of 0 would make every percentage meaningless.
        return Memory(memory.used, host.total, memory.cache)

    def _disk_bytes(self) -> tuple[int, int, int]:
        """Return used, total, and free for ordinary users."""
        try:
            stat = os.statvfs(self._disk)
        except OSError:
            return 0, 0, 0
        total = stat.f_blocks * stat.f_frsize
        return (
            total - stat.f_bfree * stat.f_frsize,
            total,
            stat.f_bavail * stat.f_frsize,
        )


def _percent(before: Sample, after: Sample, cores: float) -> float:
    """Return the use of the limit between two samples; 0 after a counter reset."""
    window_s = after.at_s - before.at_s
    used_s = after.used_s - before.used_s
    if window_s <= 0 or used_s < 0:
        return 0.0
    return round(100 * used_s / window_s / cores, 2)

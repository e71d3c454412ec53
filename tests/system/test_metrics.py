"""Metrics from control groups of both versions: recorded trees, and this machine's own.

Version 2 cannot be had for real on every machine that runs this, so its tree is one that
was recorded; version 1 is the same, and the machine's own is read besides.
"""

from pathlib import Path

import pytest

from agent.system.metrics import ControlGroup, Meter

V2 = {
    "cgroup.controllers": "cpu memory",
    "cpu.max": "150000 100000",
    "cpu.stat": "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000",
    "memory.max": "4294967296",
    "memory.current": "104857600",
    "memory.stat": "anon 1\nfile 20971520\nkernel 5",
}
V1 = {
    "cpu/cpu.cfs_quota_us": "150000",
    "cpu/cpu.cfs_period_us": "100000",
    "cpuacct/cpuacct.usage": "2000000000",
    "memory/memory.limit_in_bytes": "4294967296",
    "memory/memory.usage_in_bytes": "104857600",
    "memory/memory.stat": "cache 20971520\nrss 1",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


class Clock:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@pytest.mark.parametrize("tree", [V2, V1], ids=["v2", "v1"])
def test_limits_and_use_are_the_control_groups(
    tmp_path: Path, tree: dict[str, str]
) -> None:
    write(tmp_path, tree)
    group = ControlGroup(tmp_path)

    assert group.cpu_limit() == 1.5
    assert group.cpu_used_s() == 2.0
    memory = group.memory()
    assert (memory.used, memory.total, memory.cache) == (
        104857600,
        4294967296,
        20971520,
    )


@pytest.mark.parametrize(
    ("tree", "changes", "used"),
    [
        (V2, {"cpu.stat": "usage_usec 2750000"}, 100.0),
        (V1, {"cpuacct/cpuacct.usage": "2750000000"}, 100.0),
        (V2, {"cpu.stat": "usage_usec 2375000"}, 50.0),
        (V2, {"cpu.stat": "usage_usec 1"}, 0.0),
    ],
)
def test_processor_use_is_of_the_limit_since_the_previous_request(
    tmp_path: Path, tree: dict[str, str], changes: dict[str, str], used: float
) -> None:
    write(tmp_path, tree)
    clock = Clock()
    meter = Meter(ControlGroup(tmp_path), clock=clock, sleep=clock.sleep)
    meter.measure()

    write(tmp_path, changes)
    clock.now_s += 0.5

    metrics = meter.measure()
    assert metrics.cpu_used_pct == used
    assert metrics.cpu_count == 2


def test_the_first_request_looks_for_a_moment(tmp_path: Path) -> None:
    write(tmp_path, V2)
    clock = Clock()

    def work(seconds: float) -> None:
        clock.sleep(seconds)
        write(tmp_path, {"cpu.stat": "usage_usec 2075000"})

    metrics = Meter(ControlGroup(tmp_path), clock=clock, sleep=work).measure()

    assert metrics.cpu_used_pct == pytest.approx(50.0)


def test_limits_are_read_anew(tmp_path: Path) -> None:
    write(tmp_path, V2)
    meter = Meter(ControlGroup(tmp_path), sleep=lambda _: None)
    assert meter.measure().mem_total == 4294967296

    write(tmp_path, {"memory.max": "1073741824", "cpu.max": "max 100000"})

    metrics = meter.measure()
    assert metrics.mem_total == 1073741824
    assert metrics.cpu_count >= 1


@pytest.mark.parametrize(
    ("tree", "limit"),
    [
        (V2, {"memory.max": "max"}),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}),
    ],
)
def test_without_a_limit_the_total_is_the_hosts(
    tmp_path: Path, tree: dict[str, str], limit: dict[str, str]
) -> None:
    write(tmp_path, {**tree, **limit})

    metrics = Meter(ControlGroup(tmp_path), sleep=lambda _: None).measure()

    assert metrics.mem_total > metrics.mem_used == 104857600


def test_unreadable_sources_give_zeros_and_host_memory(tmp_path: Path) -> None:
    meter = Meter(ControlGroup(tmp_path), str(tmp_path / "no"), sleep=lambda _: None)

    metrics = meter.measure()

    assert metrics.cpu_used_pct == 0.0
    assert (metrics.disk_used, metrics.disk_total, metrics.disk_free) == (0, 0, 0)
    assert metrics.mem_total > 0


def test_this_machine_has_plausible_numbers() -> None:
    metrics = Meter().measure()

    assert 0 < metrics.mem_used < metrics.mem_total
    assert 0 < metrics.disk_used < metrics.disk_total
    assert 0 < metrics.disk_free < metrics.disk_total
    assert metrics.cpu_count >= 1
    assert metrics.cpu_used_pct >= 0
    assert metrics.timestamp.endswith("Z")
    assert "." not in metrics.timestamp

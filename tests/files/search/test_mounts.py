"""Which trees may hold files that wait for ever."""

import os

import pytest

from agent.files.search.engine.mounts import may_wait, mounted

MOUNTS = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /proc rw,nosuid shared:2 - proc proc rw
24 22 0:21 / /sys rw - sysfs sysfs rw
25 24 0:7 / /sys/kernel/tracing rw shared:9 master:1 - tracefs tracefs rw
26 22 0:30 / /data/a\040b rw - proc proc rw
27 22 0:31 / /data/covered rw - proc proc rw
28 27 0:32 / /data/covered rw - tmpfs tmpfs rw
29 23 0:33 / /proc/kcore rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    "root", ["/", "/proc", "/proc/", "/proc/self/fd", "/sys", "/data/a b", "/data"]
)
def test_trees_with_virtual_files_may_wait(root: str) -> None:
    assert may_wait(os.fsencode(root), MOUNTS)


@pytest.mark.parametrize(
    "root", ["/home", "/processes", "/sys/class", "/data/other", "/proc/kcore"]
)
def test_other_trees_do_not_wait(root: str) -> None:
    assert not may_wait(os.fsencode(root), MOUNTS)


def test_what_is_mounted_last_is_what_counts_below_it() -> None:
    assert not may_wait(b"/data/covered/x", MOUNTS)


def test_this_systems_own_list_is_read() -> None:
    assert may_wait(b"/proc/sys", mounted())

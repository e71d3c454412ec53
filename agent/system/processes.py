"""The processes of the sandbox that use the most, by psutil."""

import os
import time

import msgspec

from agent.system.models import Load, Network, ProcessUse

FIRST_WINDOW_S = 0.1
"""How long the first look takes, having no earlier one to compare with."""

Key = tuple[int, float]
"""A process: its number can be given again, but not with the same beginning."""


class _Seen(msgspec.Struct, frozen=True):
    """One process at one moment."""

    pid: int
    parent: int
    name: str
    user: str | None
    used_s: float
    mem_rss: int


class Census:
    """Compares the processes of now with those of the time before."""

    def __init__(self) -> None:
        self._at_s = 0.0
        self._seen: dict[Key, _Seen] = {}

    def top(self, count: int) -> list[ProcessUse]:
        """Return those that used the processor most since the time before.

        What used none is in the order of its memory. Blocks for a moment the first time:
        run it in a thread.
        """
        if not self._seen:
            self._look()
            time.sleep(FIRST_WINDOW_S)
        before, began_s = self._seen, self._at_s
        self._look()
        window_s = max(self._at_s - began_s, 1e-6)
        found = [
            _use(seen, before.get(key), window_s) for key, seen in self._seen.items()
        ]
        found.sort(key=lambda each: (each.cpu_pct, each.mem_rss), reverse=True)
        return found[:count]

    def _look(self) -> None:
        # Imported here, because starting the agent must not pay for it.
        import psutil  # noqa: PLC0415

        wanted = "cpu_times create_time memory_info name ppid username"
        seen: dict[Key, _Seen] = {}
        for process in psutil.process_iter(wanted.split()):
            times, memory = process.info["cpu_times"], process.info["memory_info"]
            if times is None:
                # It ended just now, or is hidden from us.
                continue
            seen[process.pid, process.info["create_time"]] = _Seen(
                pid=process.pid,
                parent=process.info["ppid"] or 0,
                name=process.info["name"] or "",
                user=process.info["username"],
                used_s=times.user + times.system,
                mem_rss=memory.rss if memory is not None else 0,
            )
        self._seen, self._at_s = seen, time.monotonic()


def _use(now: _Seen, before: _Seen | None, window_s: float) -> ProcessUse:
    used_s = now.used_s - (before.used_s if before is not None else 0.0)
    return ProcessUse(
        pid=now.pid,
        parent=now.parent,
        name=now.name,
        user=now.user,
        cpu_pct=round(100 * max(used_s, 0.0) / window_s, 2),
        mem_rss=now.mem_rss,
    )


def load() -> Load:
    """Return the averages of the run queue, and how many processes there are."""
    # Imported here, because starting the agent must not pay for it.
    import psutil  # noqa: PLC0415

    one, five, fifteen = os.getloadavg()
    return Load(
        one=round(one, 2),
        five=round(five, 2),
        fifteen=round(fifteen, 2),
        processes=len(psutil.pids()),
    )


def network() -> Network:
    """Return what all interfaces but the loopback have carried since they are up."""
    # Imported here, because starting the agent must not pay for it.
    import psutil  # noqa: PLC0415

    counters = psutil.net_io_counters(pernic=True)
    others = [found for name, found in counters.items() if name != "lo"]
    return Network(
        bytes_sent=sum(each.bytes_sent for each in others),
        bytes_received=sum(each.bytes_recv for each in others),
    )

"""What a command may use: the agent's own bounds, and tighter ones of a request."""

from agent.keeper import shapes
from agent.process.models import Limits
from agent.settings import Settings


class Bounds:
    """The agent's bounds of every command, by its settings; 0 is none.

    Args:
        settings: The agent's options.
    """

    def __init__(self, settings: Settings) -> None:
        self._wall_s = settings.limit_wall_s
        self._cpu_s = settings.limit_cpu_s
        self._memory_bytes = settings.limit_memory_bytes
        self._open_files = settings.limit_open_files
        self._processes = settings.limit_processes

    def limits(self, asked: Limits | None) -> shapes.Limits | None:
        """Return the tighter of our own bounds and those that are asked for."""
        wanted = of_request(asked) or shapes.Limits()
        found = shapes.Limits(
            cpu_s=_tighter(self._cpu_s, wanted.cpu_s),
            memory_bytes=_tighter(self._memory_bytes, wanted.memory_bytes),
            open_files=_tighter(self._open_files, wanted.open_files),
            processes=_tighter(self._processes, wanted.processes),
        )
        return None if found == shapes.Limits() else found

    def timeout_s(self, asked: float | None) -> float | None:
        """Return the time that a command may run; None is without end."""
        if not asked:
            return self._wall_s or None
        return min(asked, self._wall_s) if self._wall_s else asked


def of_request(asked: Limits | None) -> shapes.Limits | None:
    """Return what a request asks for, whatever the agent's own bounds are."""
    if asked is None:
        return None
    found = shapes.Limits(
        cpu_s=asked.cpu_seconds or 0,
        memory_bytes=asked.memory_bytes or 0,
        open_files=asked.open_files or 0,
        processes=asked.processes or 0,
    )
    return None if found == shapes.Limits() else found


def output_bytes(ours: int, asked: Limits | None) -> int:
    """Return how much of a command's output is kept."""
    return _tighter(ours, asked.output_bytes if asked is not None else None)


def _tighter(ours: int, asked: int | None) -> int:
    if not asked:
        return ours
    return min(ours, asked) if ours else asked

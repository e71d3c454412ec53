"""What one job may use: rlimits of its processes (man 2 setrlimit), and its group's."""

import resource

from agent.keeper import fields
from agent.keeper.errors import Refusal
from agent.keeper.frames import Header

CPU_SLACK_S = 2
"""After SIGXCPU, which can be caught: what is left until SIGKILL."""


class Limits:
    """Bounds of a job; 0 is none.

    Attributes:
        cpu_s: Processor seconds of each process.
        memory_bytes: Of the whole tree where it has a group of its own, else what each
            process may write to that is its own (RLIMIT_DATA).
        open_files: Descriptors of each process.
        processes: Of the whole tree where it has a group, else of the user.
    """

    __slots__ = ("cpu_s", "memory_bytes", "open_files", "processes")

    def __init__(self) -> None:
        self.cpu_s = 0
        self.memory_bytes = 0
        self.open_files = 0
        self.processes = 0

    @classmethod
    def of(cls, header: Header) -> "Limits":
        """Return what a header asks for.

        Raises:
            Refusal: A bound is no whole number above 0.
        """
        limits = cls()
        asked = header.get("limits")
        if asked is None:
            return limits
        if not isinstance(asked, dict):
            raise Refusal("invalid", "limits must be an object")
        for name in cls.__slots__:
            bound = fields.whole(asked, name, 0)
            if bound < 0:
                raise Refusal("invalid", f"{name} must not be negative")
            setattr(limits, name, bound)
        return limits

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)

    def rlimits(self, *, has_group: bool) -> list[tuple[int, int, int]]:
        """Return (resource, soft, hard) of what the kernel bounds process by process."""
        found = []
        if self.cpu_s:
            found.append((resource.RLIMIT_CPU, self.cpu_s, self.cpu_s + CPU_SLACK_S))
        if self.open_files:
            found.append((resource.RLIMIT_NOFILE, self.open_files, self.open_files))
        if self.memory_bytes and not has_group:
            found.append((resource.RLIMIT_DATA, self.memory_bytes, self.memory_bytes))
        if self.processes and not has_group:
            found.append((resource.RLIMIT_NPROC, self.processes, self.processes))
        return found


def take_on(rlimits: list[tuple[int, int, int]]) -> None:
    """Bound this process; what is bounded more tightly already stays so.

    Raises:
        OSError: The kernel refused.
    """
    for which, soft, hard in rlimits:
        _, highest = resource.getrlimit(which)
        resource.setrlimit(which, (_lower(soft, highest), _lower(hard, highest)))


def _lower(bound: int, highest: int) -> int:
    return bound if highest == resource.RLIM_INFINITY else min(bound, highest)


class Loan:
    """Bounds that a session's shell has for the time of one command.

    They are soft ones, since nothing but root could take hard ones back; what the command
    starts inherits them, and keeps them when it stays in the background.

    Args:
        pid: The shell.
        limits: The bounds.
        used_s: Processor seconds that the shell itself has used.
    """

    def __init__(self, pid: int, limits: Limits, used_s: float) -> None:
        self._pid = pid
        self._before: list[tuple[int, tuple[int, int]]] = []
        for which, soft, _ in limits.rlimits(has_group=False):
            _, hard = before = resource.prlimit(pid, which)
            already = int(used_s) + 1 if which == resource.RLIMIT_CPU else 0
            resource.prlimit(pid, which, (_lower(soft + already, hard), hard))
            self._before.append((which, before))

    def give_back(self) -> None:
        """Restore what was before; a shell that has ended needs it no more."""
        for which, before in self._before:
            try:
                resource.prlimit(self._pid, which, before)
            except OSError:
                return

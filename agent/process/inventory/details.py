"""Reads what there is to know of processes; those that vanish meanwhile are left out."""

import contextlib
import shlex
from collections.abc import Iterable, Sequence

import msgspec

from agent import wire
from agent.keeper import tree
from agent.process.inventory.models import ProcessInfo

TEXT_MAX_CHARACTERS = 4096
"""Of one process's arguments, or of one command: a script in them may have megabytes."""


class Detail(msgspec.Struct, frozen=True):
    """A process, with what it holds of memory.

    Attributes:
        info: As it is told.
        memory_bytes: Its proportional share, or else what is resident.
        is_share: Which of both it is.
        started: Wall clock.
    """

    info: ProcessInfo
    memory_bytes: int
    is_share: bool
    started: float


def read(members: Iterable[tree.Process]) -> list[Detail]:
    """Return the details of those that are still there; blocks."""
    found = (_read(each) for each in members)
    return [each for each in found if each is not None]


def _read(process: tree.Process) -> Detail | None:
    # Late, because starting the agent must not pay for it.
    import psutil  # noqa: PLC0415

    hidden = psutil.AccessDenied, psutil.ZombieProcess
    words: list[str] = []
    share: int | None = None
    try:
        reader = psutil.Process(process.pid)
        with reader.oneshot():
            with contextlib.suppress(*hidden):
                words = reader.cmdline()
            with contextlib.suppress(*hidden):
                share = int(reader.memory_full_info().pss)
            times, resident = reader.cpu_times(), reader.memory_info().rss
            info = ProcessInfo(
                pid=process.pid,
                ppid=process.parent,
                name=wire.printable(reader.name()),
                argv=_cut(words),
                state=str(reader.status()),
                cpu_seconds=round(times.user + times.system, 2),
                rss_bytes=resident,
                threads=reader.num_threads(),
            )
            started = reader.create_time()
    except psutil.Error:
        return None
    now = tree.look_up(process.pid)
    if now is None or now.started != process.started:
        # Its number is another's by now, and so may be what was read.
        return None
    return Detail(
        info, resident if share is None else share, share is not None, started
    )


def _cut(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    left = TEXT_MAX_CHARACTERS
    for word in words:
        if left <= 0:
            break
        kept.append(wire.printable(word[:left]))
        left -= len(word)
    return kept


def line_of(argv: Sequence[str]) -> str:
    """Return arguments as a line for people; of a shell's `-c` what it is to run."""
    if len(argv) == 3 and argv[1] == "-c":
        return argv[2]
    return shlex.join(argv)[:TEXT_MAX_CHARACTERS]

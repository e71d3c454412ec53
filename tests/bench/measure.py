"""What every case measures with: rounds, medians, goals, memory and processor time."""

import contextlib
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.bench.stand_ins import LIMITS, compiled
from tests.support.agent import Agent, running

KIB = 1024
MIB = 1024 * KIB
SAMPLE_INTERVAL_S = 0.02
"""Between two looks at a process's memory; one look costs it about a millisecond."""


@dataclass(frozen=True)
class Goal:
    """A bound that a figure is to keep."""

    bound: float
    at_most: bool

    def reached(self, value: float) -> bool:
        """Tell whether `value` keeps the bound."""
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


def at_most(bound: float) -> Goal:
    """Return the goal of being small."""
    return Goal(bound, at_most=True)


def at_least(bound: float) -> Goal:
    """Return the goal of being large."""
    return Goal(bound, at_most=False)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of a case.

    Attributes:
        name: What was measured.
        ours: The agent's values, one a round.
        limit: The stand-in's values of the same rounds; empty: the goal is absolute.
        unit: Of both.
        goal: The bound for the ratio, or for our median where there is no limit.
        note: What a reader should know besides.
    """

    name: str
    ours: list[float]
    limit: list[float] = field(default_factory=list)
    unit: str = ""
    goal: Goal | None = None
    note: str = ""

    @property
    def value(self) -> float:
        """The figure that the goal is about."""
        ours = statistics.median(self.ours)
        return ours / statistics.median(self.limit) if self.limit else ours

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        return self.goal.reached(self.value) if self.goal else None


@dataclass
class Bench:
    """What the cases of one run share.

    Args:
        scratch: A directory that is removed at the end.
        rounds: How often everything is measured.
        size_bytes: Of a large file.
    """

    scratch: Path
    rounds: int
    size_bytes: int

    @contextlib.contextmanager
    def agent(self, *options: str) -> Iterator[Agent]:
        """Run an agent while inside; it has answered its first request."""
        with running(self.directory(), *options) as agent:
            agent.request("GET", "/version")
            yield agent

    def directory(self) -> Path:
        """Make a new directory."""
        return Path(tempfile.mkdtemp(dir=self.scratch))

    @cached_property
    def large_file(self) -> Path:
        """A file of `size_bytes` random bytes, in the page cache."""
        path = self.scratch / "large.bin"
        # Random, so that nothing on the way can be clever about it.
        block = os.urandom(MIB)
        with path.open("wb") as file:
            for _ in range(self.size_bytes // MIB):
                file.write(block)
        return path

    @cached_property
    def small_file(self) -> Path:
        """A file of 4 KiB."""
        path = self.scratch / "small.bin"
        path.write_bytes(os.urandom(4 * KIB))
        return path

    @cached_property
    def spawner(self) -> Path:
        """The compiled C program that starts shells."""
        return compiled(LIMITS / "spawn.c", self.scratch)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something that can be asked for by name.

    Attributes:
        name: Its name on the command line.
        about: What it measures, and against what.
        run: Measures it and yields its rows.
        needs: The programs that it cannot do without.
        needs_root: Whether it looks into the agent, which hides its memory from others.
    """

    name: str
    about: str
    run: Callable[[Bench], Iterator[Row]]
    needs: tuple[str, ...] = ()
    needs_root: bool = False

    def missing(self) -> list[str]:
        """Return what this machine lacks for it."""
        lacking = [program for program in self.needs if shutil.which(program) is None]
        return lacking + (["root"] if self.needs_root and os.geteuid() else [])


def interleaved(rounds: int, *measures: Callable[[], float]) -> tuple[list[float], ...]:
    """Call each of `measures` once a round; return the values of each.

    The order turns round each time, so that none of them always comes after another.
    """
    values: tuple[list[float], ...] = tuple([] for _ in measures)
    for number in range(rounds):
        pairs = list(zip(measures, values, strict=True))
        for measure, found in pairs if number % 2 == 0 else reversed(pairs):
            found.append(measure())
    return values


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes, in all."""
    total_kib = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total_kib += next(
            int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:"
        )
    return total_kib * KIB


def cpu_ticks(pids: Iterable[int]) -> int:
    """Return the processor time that processes have used, in the system's ticks."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/stat").read_text()
        user, system = text.rpartition(") ")[2].split()[11:13]
        total += int(user) + int(system)
    return total


@contextlib.contextmanager
def peak_growth(pids: Iterable[int]) -> Iterator[list[int]]:
    """Watch the memory of processes while inside; leaves in the list by how much it grew."""
    watched = list(pids)
    before = pss_bytes(watched)
    growth = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_INTERVAL_S):
            growth[0] = max(growth[0], pss_bytes(watched) - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield growth
    finally:
        stop.set()
        thread.join()


def pin(pids: Iterable[int], cpu: int) -> None:
    """Keep processes, with all threads that they have or start, on one processor."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cpu})

"""What the timeline is told of jobs: their start and their end, in the wire's words.

Never what was run, which may hold secrets: of a command line only the name of its first
program, when it looks like one; and of a job's label, environment and directory nothing.
Helpers of the agent's own (searches, watchers) are nobody's business.
"""

import os
import re
import signal
from collections.abc import Sequence

from agent.keeper.events import Events
from agent.keeper.frames import Header
from agent.keeper.job import Job

SUBJECTS = {
    "command": "command",
    "code": "command",
    "session-command": "command",
    "entrypoint": "command",
    "pty": "pty",
    "context": "context",
}
"""The first word of an event's type, by the kind of the job that it is about."""

_PROGRAM = re.compile(rb"\s*([A-Za-z0-9_.+/-]{1,128})(?=[\s;&|<>()]|\Z)")

PROGRAM_MAX_CHARS = 24
"""A longer first word is less likely a program than something that was pasted."""

LOOKED_AT_BYTES = 256
"""Of a command line's beginning."""


class Accounts:
    """Tells the timeline of jobs.

    Args:
        events: The timeline.
    """

    def __init__(self, events: Events) -> None:
        self._events = events

    def tell(self, kind: str, facts: Header) -> None:
        """Tell of something else than a job."""
        self._events.tell(kind, facts)

    def started(self, job: Job) -> None:
        """Tell of a start, and have the end told when it comes."""
        subject = SUBJECTS.get(job.terms.kind)
        if subject is None:
            return
        facts = _facts_of(job)
        facts["pid"] = job.pid
        if job.terms.program:
            facts["program"] = job.terms.program
        # Before those who wait: who has the answer finds the end in the timeline.
        job.waiting.insert(0, self._ended)
        self._events.tell(f"{subject}.started", facts)

    def never_started(self, job: Job, reason: str) -> None:
        """Tell of a job that never ran."""
        subject = SUBJECTS.get(job.terms.kind)
        if subject is not None:
            self._events.tell(f"{subject}.failed", {**_facts_of(job), "reason": reason})

    def _ended(self, job: Job) -> None:
        how = job.exit
        if how is None:
            return
        facts = _facts_of(job)
        facts["pid"] = job.pid
        facts["exitCode"] = how.code
        facts["reason"] = how.reason
        if how.signal:
            facts["signal"] = signal_name(how.signal)
        facts["durationMs"] = round(how.lasted_s * 1000, 3)
        facts["outputBytes"] = job.output.total
        if job.output.dropped:
            facts["droppedBytes"] = job.output.dropped
        self._events.tell(f"{SUBJECTS[job.terms.kind]}.ended", facts)


def _facts_of(job: Job) -> Header:
    return {"kind": job.terms.kind, "job": job.id, **job.terms.told}


def program_of(argv: Sequence[bytes], script: bytes, kind: str) -> str:
    """Return the name of the program that a job runs, as far as it is safe to tell.

    The shell of a command says nothing, so of that its text's first word is told, unless
    that is an assignment, quoted or long.
    """
    if kind != "command":
        return os.fsdecode(os.path.basename(argv[0]))[:PROGRAM_MAX_CHARS]
    return first_word(script or argv[-1])


def first_word(text: bytes) -> str:
    """Return the program that a command line begins with, or nothing."""
    found = _PROGRAM.match(text, 0, LOOKED_AT_BYTES)
    if found is None:
        return ""
    name = found[1].rpartition(b"/")[2]
    return name.decode() if len(name) <= PROGRAM_MAX_CHARS else ""


def signal_name(number: int) -> str:
    """Return what a signal is called."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"

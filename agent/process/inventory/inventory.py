"""Lists what the agent runs, and ends any part of it."""

import os
import time
from datetime import UTC, datetime

import msgspec

from agent import wire
from agent.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from agent.files.threads import Threads
from agent.keeper.client import Job, Keeper
from agent.keeper.session_client import KeptSessions
from agent.process.inventory.census import COMMAND, Census, Group
from agent.process.inventory.details import (
    TEXT_MAX_CHARACTERS,
    Detail,
    line_of,
    read,
)
from agent.process.inventory.ending import Branch
from agent.process.inventory.models import RunningCommand, RunningProcess
from agent.wire import UNSET

CLIENTS_KINDS = frozenset(
    {"command", "code", "session", "pty", "context", "entrypoint"}
)
"""Kinds of jobs that a client asked for; all others are the agent's own helpers."""

BACKGROUND = "background"

TREE_MAX = 1000
"""Processes told of one tree; each costs some reads of /proc."""

PID_MAX = 2**22
"""The kernel's own bound (man 5 proc, pid_max)."""

NOT_FOUND = "PROCESS_NOT_FOUND"


class _Facts(msgspec.Struct):
    """What the labels of terminals and contexts have besides other things."""

    id: str = ""


class Inventory:
    """What the agent runs.

    Args:
        keeper: Who has it.
        grace_s: Between asking and killing, for who does not say.
    """

    def __init__(self, keeper: Keeper, *, grace_s: float) -> None:
        self._keeper = keeper
        self._sessions = KeptSessions(keeper)
        self._grace_s = grace_s
        self._threads = Threads("inventory", 2)

    async def aclose(self) -> None:
        """Leave the threads."""
        await self._threads.aclose()

    async def list(self, *, everything: bool) -> list[RunningProcess]:
        """Return what runs, oldest first.

        Args:
            everything: The agent's own processes and helpers too.
        """
        jobs = await self._keeper.list()
        census = await self._census(jobs)
        groups = [
            each
            for each in census.groups.values()
            if everything or not _is_ours(census, each)
        ]
        told = await self._threads.run(_tell_all, census, groups)
        busy = {
            job.label: job
            for job in jobs
            if job.kind == COMMAND and job.state == "running"
        }
        found = [
            msgspec.structs.replace(each, running_command=await self._command(job))
            if each.kind == "session" and (job := busy.get(each.id))
            else each
            for each in told
        ]
        return sorted(found, key=lambda each: each.started_at)

    async def end(self, pid_text: str, grace_s: float | None) -> None:
        """End a process with what came of it.

        A job's leader takes the whole job with it, wherever its processes went; any
        other process what descends from it.

        Raises:
            InvalidRequestError: It is no process id.
            NotFoundError: There is no such process, or it is not the agent's.
            ForbiddenError: It is the agent itself, or a helper of it.
            ConflictError: Some of it cannot be killed.
        """
        pid = _pid(pid_text)
        grace_s = self._grace_s if grace_s is None else grace_s
        census = await self._census(await self._keeper.list())
        found = census.find(pid)
        if found is None:
            raise NotFoundError(f"process {pid} not found", code=NOT_FOUND)
        group, process = found
        if _is_ours(census, group):
            raise ForbiddenError(f"process {pid} is the agent's own")
        if group.is_led and group.leader == pid:
            left = await self._end_job(group.name, grace_s)
        else:
            left = await Branch(process, self._threads).end(grace_s)
        if left:
            raise ConflictError(f"{left} processes of {pid} could not be ended")

    async def _end_job(self, job_id: str, grace_s: float) -> int:
        try:
            return await self._keeper.end(job_id, grace_s)
        except NotFoundError:
            # It has ended, and was forgotten, while we looked.
            return 0

    async def _census(self, jobs: tuple[Job, ...]) -> Census:
        keeper_pid = int((await self._keeper.stats())["pid"])
        return await self._threads.run(Census, jobs, keeper_pid, os.getpid())

    async def _command(self, job: Job) -> RunningCommand:
        try:
            _, text, _ = await self._sessions.command(job.label, job.id)
        except NotFoundError:
            # Ended and forgotten since; it ran at the time that is told of.
            text = ""
        return RunningCommand(
            id=job.id,
            command=wire.printable(text[:TEXT_MAX_CHARACTERS]),
            started_at=_moment(job.started),
            age_seconds=_age(job.started),
        )


def _pid(text: str) -> int:
    """Return a process id.

    Raises:
        InvalidRequestError: It is none.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(PID_MAX))
    if not is_number or not 0 < int(text) <= PID_MAX:
        raise InvalidRequestError(f"not a process id: {wire.printable(text)}")
    return int(text)


def _is_ours(census: Census, group: Group) -> bool:
    if group.job is not None:
        return group.job.kind not in CLIENTS_KINDS
    return census.is_agent(group)


def _tell_all(census: Census, groups: list[Group]) -> list[RunningProcess]:
    told = (_tell(group, census.is_agent(group)) for group in groups)
    return [each for each in told if each is not None]


def _tell(group: Group, is_agent: bool) -> RunningProcess | None:
    """Return what is told of a group, or None when it has gone meanwhile."""
    # The leader first, so that it is told of however large the tree is.
    members = sorted(group.members, key=lambda each: each.pid != group.leader)
    details = read(members[:TREE_MAX])
    if not details or not any(each.info.state != "zombie" for each in details):
        return None
    job, first = group.job, details[0]
    is_led = is_agent or group.is_led
    started = job.started if job is not None else first.started
    return RunningProcess(
        kind=group.name if is_agent else (job.kind if job is not None else "command"),
        id=_id(group),
        pid=group.leader,
        command=line_of(first.info.argv) or first.info.name,
        state="running" if is_led else BACKGROUND,
        started_at=_moment(started),
        age_seconds=_age(started),
        cpu_seconds=round(sum(each.info.cpu_seconds for each in details), 2),
        memory_bytes=sum(each.memory_bytes for each in details),
        memory_kind=_memory_kind(details),
        process_count=len(group.members),
        processes=[each.info for each in details],
        running_command=UNSET,
    )


def _id(group: Group) -> str:
    if group.job is None or not group.job.label:
        return wire.printable(group.name)
    label = group.job.label
    if group.job.kind in {"pty", "context"}:
        try:
            return msgspec.json.decode(label, type=_Facts).id
        except msgspec.DecodeError:
            return label
    return label


def _memory_kind(details: list[Detail]) -> str:
    kinds = {each.is_share for each in details if each.info.state != "zombie"}
    if len(kinds) > 1:
        return "mixed"
    return "pss" if True in kinds else "rss"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _age(started: float) -> float:
    return round(max(0.0, time.time() - started), 3)

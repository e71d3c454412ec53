"""Tells which process belongs to which of the keeper's jobs.

All that the agent runs descends from the keeper, which is the subreaper of what has lost
its parent. So a process belongs to what its parent belongs to; only the keeper's own
children have to be told apart: a job's leader by its number, what escaped by the tag in
its environment (`TOOLBOX_OWNER`), and what has emptied that by the session it is in.

A job that was answered as a whole is forgotten with its answer, but `server & echo ok`
leaves a server: what has the tag of a job that nobody knows is listed by that tag.
"""

import os
from collections.abc import Sequence

import msgspec

from agent.keeper import tree
from agent.keeper.client import Job

API = "api"
"""The api and what it started itself, git and language servers."""
KEEPER = "keeper"
STRAY = "stray"
"""Begins the name of what nothing is known of."""
COMMAND = "session-command"
"""The kind of job that is no process of its own: the session's shell runs it."""

_API_TAG = b"api:"
_JOB_TAG = b"job:"


class Group(msgspec.Struct, kw_only=True):
    """All living processes of one job.

    Attributes:
        name: The job's id; `api`, `keeper`, or a name that no job has.
        job: None when the keeper does not know it any more, or never did.
        leader: The pid of what it began with, or of what is left of it.
        members: Parents before children.
    """

    name: str
    job: Job | None
    leader: int
    members: list[tree.Process]

    @property
    def is_led(self) -> bool:
        """Whether the process that it began with still runs."""
        return self.job is not None and self.leader == self.job.pid


class Census:
    """All processes below a keeper, at one moment.

    Made by reading /proc, so in a thread.

    Args:
        jobs: What the keeper runs.
        keeper_pid: The keeper.
        api_pid: The api.
    """

    def __init__(self, jobs: Sequence[Job], keeper_pid: int, api_pid: int) -> None:
        self.keeper_pid = keeper_pid
        self._jobs = {job.id: job for job in jobs if job.kind != COMMAND}
        self._leaders = {
            job.pid: job.id for job in self._jobs.values() if job.state == "running"
        }
        self._api_pid = api_pid
        self._names: dict[int, str] = {}
        self.groups: dict[str, Group] = {}
        processes = tree.table()
        for each in tree.descendants(processes, {keeper_pid}):
            self._place(each)
        if keeper_pid in processes:
            self.groups[KEEPER] = Group(
                name=KEEPER,
                job=None,
                leader=keeper_pid,
                members=[processes[keeper_pid]],
            )

    def is_agent(self, group: Group) -> bool:
        """Tell whether a group is the keeper or the api."""
        return group.job is None and group.name in {API, KEEPER}

    def find(self, pid: int) -> tuple[Group, tree.Process] | None:
        """Return a living process and the group that it belongs to."""
        if pid == self.keeper_pid:
            group = self.groups.get(KEEPER)
        else:
            group = self.groups.get(self._names.get(pid, ""))
        if group is None:
            return None
        members = (each for each in group.members if each.pid == pid and each.alive)
        member = next(members, None)
        return None if member is None else (group, member)

    def _place(self, process: tree.Process) -> None:
        name = self._name(process)
        if not process.alive and name not in self.groups:
            # Nobody's, or a leader that is about to be taken note of.
            return
        self._names[process.pid] = name
        group = self.groups.get(name)
        if group is None:
            job = self._jobs.get(name)
            group = Group(name=name, job=job, leader=process.pid, members=[])
            self.groups[name] = group
        if self._leaders.get(process.pid) == name:
            group.leader = process.pid
        group.members.append(process)

    def _name(self, process: tree.Process) -> str:
        pid = process.pid
        if pid == self._api_pid:
            return API
        if pid in self._leaders:
            return self._leaders[pid]
        if process.parent != self.keeper_pid and process.parent in self._names:
            return self._names[process.parent]
        tag = tree.owner(pid)
        if tag is not None:
            return self._name_of_tag(tag)
        return self._leaders.get(process.session, f"{STRAY}-{pid}")

    def _name_of_tag(self, tag: bytes) -> str:
        if tag.startswith(_API_TAG):
            return API
        name = os.fsdecode(tag.removeprefix(_JOB_TAG))
        # A job with a name of its own has the keeper's mark before it.
        _, _, own = name.partition("-")
        return own if own in self._jobs and name not in self._jobs else name

"""All jobs: starting, finding, ending and forgetting them."""

import contextlib
import os
import signal
from collections.abc import Callable

from agent.keeper import fields
from agent.keeper.accounts import Accounts, program_of
from agent.keeper.cgroup import Groups
from agent.keeper.errors import Refusal
from agent.keeper.frames import Header
from agent.keeper.job import Job
from agent.keeper.ladder import Ladder, Scope
from agent.keeper.limits import Limits
from agent.keeper.live import LiveOutput
from agent.keeper.logs import Log, Memory, Ring, Spool
from agent.keeper.loop import Loop
from agent.keeper.short_log import ShortLog
from agent.keeper.spawn import Plan, Spawner
from agent.keeper.state import State

RECORDS_PER_RUNNING = 4
"""Jobs known, ended ones included, for each one that may run."""

TOLD_S = 5.0
"""How long a log stays whose place was told to somebody."""

TERMINAL_MAX = 65535
"""Rows and columns are 16-bit numbers (man 2 TIOCSWINSZ)."""

MAX_BYTES = 256 * 1024 * 1024
"""Output kept of a job that does not say."""


class Jobs:
    """The jobs of one keeper.

    Args:
        loop: The keeper's loop.
        state: Where logs and spools are.
        spawner: Who starts processes.
        work_dir: The absolute directory that relative ones resolve against.
        max_running: More at once are refused.
        accounts: Tells the timeline of them.
    """

    def __init__(
        self,
        loop: Loop,
        state: State,
        spawner: Spawner,
        work_dir: str,
        max_running: int,
        accounts: Accounts,
    ) -> None:
        self._loop = loop
        self.accounts = accounts
        self._state = state
        self._spawner = spawner
        self._work_dir = os.fsencode(work_dir)
        self._max_running = max_running
        self._by_id: dict[str, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._groups = Groups()
        self._groups.has_killed()
        self._memory = Memory()
        self._short = Memory()
        # Part of every id: an agent may run inside another one's job, and the tags of
        # the two must not be mistaken for each other.
        self._life = os.urandom(4).hex()
        self._count = 0
        self._adopted: set[str] = set()
        self._pumped = 0
        self._dropped = 0
        self.environment: dict[bytes, bytes] = {}
        self.closing = False
        self.others: Callable[[], set[int]] = set

    # -- starting -----------------------------------------------------------------

    def run(self, header: Header, script: bytes, done: Callable[[Job], None]) -> Job:
        """Start a job that is answered as a whole when it ends, by `done`.

        Raises:
            Refusal: It cannot be started.
        """
        self._admit()
        job_id = self._wanted_id(header)
        bound = max(1, fields.whole(header, "max_bytes", MAX_BYTES))
        path = self._state.spool_path(f"{job_id}.out")
        spool = Spool(self._state, path, bound, self._memory)
        job = Job(self._loop, job_id, spool)
        job.held = fields.flag(header, "held")
        job.waiting.append(done)
        return self._launch(job, header, script)

    def _wanted_id(self, header: Header) -> str:
        """Return the name that a header has for a new job, or a new one.

        Raises:
            Refusal: It is no name, or another job's.
        """
        job_id = fields.text(header, "job", "") or self._new_id()
        if not job_id.replace("-", "").isalnum() or not job_id.isascii():
            raise Refusal("invalid", f"not a job's name: {job_id!r}")
        if job_id in self._by_id:
            raise Refusal("conflict", f"job {job_id} exists")
        return job_id

    def spawn(self, header: Header, script: bytes) -> Job:
        """Start a job whose output is followed, and which stays until it is forgotten.

        Raises:
            Refusal: It cannot be started.
        """
        self._admit()
        job_id = self._wanted_id(header)
        kept = fields.flag(header, "kept")
        job = Job(self._loop, job_id, self._place(job_id, header, kept=kept))
        if kept:
            job.terms.directory = self._state.job_path(job_id)
        try:
            return self._launch(job, header, script)
        except Refusal:
            self._remove(job)
            raise

    def _place(
        self, job_id: str, header: Header, *, kept: bool
    ) -> Log | Ring | LiveOutput:
        if fields.text(header, "output", "") == "pty":
            return Ring()
        if fields.flag(header, "live"):
            return LiveOutput()
        bound = max(0, fields.whole(header, "max_bytes", MAX_BYTES))
        if not kept:
            path = self._state.spool_path(job_id)
            return Log(self._state, f"{path}.log", f"{path}.index", bound)
        # A log that cannot be made drops its bytes; the command runs all the same.
        with contextlib.suppress(OSError):
            self._state.make_job(job_id)
        path = self._state.job_path(job_id)
        log = Log(self._state, f"{path}/output.log", f"{path}/index", bound)
        log.create()
        return log

    def start_shell(self, header: Header, shell: Callable[[str], Job]) -> Job:
        """Start the shell of a session.

        Args:
            header: As for `spawn`; its output is the session's.
            shell: Makes the job, given its name.

        Raises:
            Refusal: It cannot be started.
        """
        self._admit()
        job = shell(self._new_id())
        return self._launch(job, {**header, "output": "split", "stdin": "pipe"}, b"")

    def adopt(self, job: Job) -> None:
        """Make a job known that is no process of its own: a session's command.

        Raises:
            Refusal: `conflict`, when there is one of that name.
        """
        if job.id in self._by_id:
            raise Refusal("conflict", f"job {job.id} exists")
        self._by_id[job.id] = job
        self._adopted.add(job.id)

    def drop(self, job: Job) -> None:
        """Forget what belongs to a session."""
        self._unlist(job)
        if isinstance(job.output, Log) and job.output.is_told:
            # A follower may be about to open it, who was told where it is just now.
            self._loop.later(TOLD_S, job.output.remove)
        else:
            job.output.remove()

    def _admit(self) -> None:
        if self.closing:
            raise Refusal("conflict", "the agent is shutting down")
        if len(self._by_pid) >= self._max_running:
            raise Refusal("too-many", f"{self._max_running} commands are running")
        remembered = len(self._by_id) - len(self._adopted)
        if remembered >= self._max_running * RECORDS_PER_RUNNING:
            raise Refusal("too-many", f"{remembered} commands are remembered")

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._life}-{self._count:x}"

    def _launch(self, job: Job, header: Header, script: bytes) -> Job:
        terms = job.terms
        terms.kind = fields.text(header, "kind", "")
        terms.label = fields.text(header, "label", "")
        terms.tag = b"job:" + fields.raw(
            job.id if job.id.startswith(self._life) else f"{self._life}-{job.id}"
        )
        terms.told = dict(fields.strings(header, "told"))
        plan = self._plan(job, header)
        terms.program = program_of(plan.argv, script, terms.kind)
        timeout_s = fields.seconds(header, "timeout_s")
        terms.limits = plan.limits = Limits.of(header)
        if script:
            self._write_script(job, plan, script)
        try:
            if terms.limits.memory_bytes or terms.limits.processes:
                name = os.fsdecode(terms.tag).removeprefix("job:")
                terms.group = plan.group = self._groups.create(name, terms.limits)
            started = self._spawner.start(plan)
        except Refusal:
            if terms.script is not None:
                self._state.drop(terms.script)
            if terms.group is not None:
                self._groups.drop(terms.group)
            self.accounts.never_started(job, "start-failed")
            raise
        job.attach(started)
        self._by_id[job.id] = job
        self._by_pid[job.pid] = job
        self.accounts.started(job)
        if timeout_s:
            job.limit(timeout_s, lambda: self._timed_out(job))
        return job

    def new_log(self, job_id: str, max_bytes: int) -> ShortLog:
        """Return where the output of a session's command goes."""
        path = self._state.spool_path(job_id)
        return ShortLog(
            self._state, f"{path}.log", f"{path}.index", max_bytes, self._short
        )

    def _plan(self, job: Job, header: Header) -> Plan:
        argv = fields.arguments(header, "argv")
        cwd = fields.raw(fields.text(header, "cwd", ""))
        environment = {
            **self.environment,
            **fields.variables(header, "env"),
            b"TOOLBOX_OWNER": job.terms.tag,
        }
        for name in fields.texts(header, "unset"):
            environment.pop(fields.raw(name), None)
        plan = Plan(argv, os.path.join(self._work_dir, cwd), environment)
        plan.output = job.terms.mode = fields.choice(
            header, "output", ("merged", "split", "pty")
        )
        plan.stdin = fields.choice(header, "stdin", ("null", "pipe"))
        plan.control = fields.flag(header, "control")
        if plan.output == "pty":
            plan.size = job.terms.size = terminal_size(header)
        return plan

    def _write_script(self, job: Job, plan: Plan, script: bytes) -> None:
        path = self._state.spool_path(f"{job.id}.script")
        try:
            fd = self._state.create(path)
            try:
                rest = memoryview(script)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            finally:
                os.close(fd)
        except OSError as error:
            self._state.drop(path)
            raise Refusal(
                "os", f"script: {error.strerror}", error.errno or 0
            ) from error
        job.terms.script = path
        plan.argv = [*plan.argv, os.fsencode(path)]

    # -- finding ------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            Refusal: There is none of that name.
        """
        job = self._by_id.get(job_id)
        if job is None:
            raise Refusal("not-found", f"there is no job {job_id}")
        return job

    def all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        return list(self._by_id.values())

    def leaders(self) -> set[int]:
        """Return the pids of the jobs that run."""
        return set(self._by_pid)

    # -- ending -------------------------------------------------------------------

    def reaped(self, pid: int, status: int, usage: tuple[float, float, int]) -> bool:
        """Take note of an end; return False when it was no job's leader."""
        job = self._by_pid.pop(pid, None)
        if job is None:
            return False
        group = job.terms.group
        code = os.waitstatus_to_exitcode(status)
        job.ending = job.ending or self.cause(job, 128 - code if code < 0 else code)
        if group is not None:
            user_s, system_s, peak_bytes = usage
            usage = (user_s, system_s, group.peak_bytes() or peak_bytes)
            self._groups.drop(group)
        job.leader_exited(status, usage)
        return True

    def cause(self, job: Job, code: int) -> str:
        """Return which bound a job that ended with a code has met, or nothing."""
        if code == 128 + signal.SIGXCPU and job.terms.limits.cpu_s:
            return "cpu-limit"
        if code != 128 + signal.SIGKILL:
            return ""
        group = job.terms.group
        has_met = group is not None and group.oom_kills() > 0
        # Asked in any case: the next question is about what happens from now on.
        return "oom-killed" if self._groups.has_killed() or has_met else ""

    def end(self, job: Job, grace_s: float, done: Callable[[int], None]) -> None:
        """End a job and all that came of it; `done` hears how many could not be."""
        if job.state == "running" and not job.ending:
            job.ending = "deleted"
        if job.ladder is None:
            job.ladder = self._ladder(job)
            job.ladder.when_done(done)
            job.ladder.start(grace_s)
        else:
            job.ladder.when_done(done)
            job.ladder.hasten(grace_s)

    def _timed_out(self, job: Job) -> None:
        if job.state != "running":
            return
        job.ending = job.ending or "timeout"
        if job.ladder is None:
            job.ladder = self._ladder(job)
            job.ladder.start(0)
        else:
            job.ladder.kill()

    def _ladder(self, job: Job) -> Ladder:
        def spared() -> set[int]:
            return (self.leaders() | self.others()) - {job.pid}

        scope = Scope(job.pid, job.terms.tag, spared, pipes=job.pipes())
        ladder = Ladder(self._loop, scope, hang_up=job.terms.mode == "pty")

        def over(_left: int) -> None:
            job.ladder = None

        ladder.when_done(over)
        return ladder

    def close(self) -> None:
        """Publish what has ended, when the keeper itself does."""
        for job in self.all():
            job.finish()
        self._groups.clear()

    # -- forgetting ---------------------------------------------------------------

    def forget(self, job_id: str) -> None:
        """Drop a job that has ended, and its output; one that is unknown is forgotten.

        Raises:
            Refusal: It still runs.
        """
        job = self._by_id.get(job_id)
        if job is None:
            return
        if job.state != "finished" or job.owned:
            raise Refusal("conflict", f"job {job_id} is still needed")
        self._remove(job)

    def _remove(self, job: Job) -> None:
        self._unlist(job)
        job.output.remove()
        if job.terms.directory is not None:
            self._state.drop_job(job.id)

    def _unlist(self, job: Job) -> None:
        self._by_id.pop(job.id, None)
        self._adopted.discard(job.id)
        for reader in list(job.readers):
            reader.drop("forgotten")
        self._pumped += job.output.total
        self._dropped += job.output.dropped
        job.discard_rest()

    def counts(self) -> dict[str, int]:
        """Return numbers for `stats`."""
        outputs = [job.output for job in self._by_id.values()]
        return {
            "jobs": len(self._by_id),
            "running": len(self._by_pid),
            "bytes_pumped": self._pumped + sum(each.total for each in outputs),
            "bytes_dropped": self._dropped + sum(each.dropped for each in outputs),
            "memory_bytes": self._memory.used,
        }


def terminal_size(header: Header) -> tuple[int, int]:
    """Return the rows and columns that a header asks for.

    Raises:
        Refusal: No terminal has such a size.
    """
    rows, columns = (
        fields.whole(header, "rows", 24),
        fields.whole(header, "columns", 80),
    )
    if not (0 < rows <= TERMINAL_MAX and 0 < columns <= TERMINAL_MAX):
        raise Refusal("invalid", f"terminal of {rows} rows and {columns} columns")
    return rows, columns

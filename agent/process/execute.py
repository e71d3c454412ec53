"""Runs one command to its end: the nouns behind `/process/execute`.

The keeper starts the shell, collects what it and its children write to the one pipe that
is both standard output and standard error, and answers when the shell has exited, not
when the pipe closes: `server & echo ok` is done at once and the server lives on.
"""

import math
import os
from collections.abc import Mapping

import msgspec

from agent.errors import InvalidRequestError, TimeLimitError
from agent.keeper.client import Keeper, RunResult, Spec
from agent.process.legacy import unwrap
from agent.process.limits import Bounds, output_bytes
from agent.process.models import Limits
from agent.process.shell import ARGUMENT_MAX_BYTES, Shells
from agent.system.environment import check_variables

TIMEOUT_CODE = "PROCESS_EXECUTION_TIMEOUT"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command line with where and how to run it.

    Attributes:
        line: What the shell is to run.
        cwd: Its directory; relative ones resolve against the work dir, None is that.
        environment: What it has besides the environment of all commands.
        timeout_s: After this its whole tree is killed; None or 0 is no limit.
        limits: What else it may use.
    """

    line: str
    cwd: str | None = None
    environment: Mapping[str, str] | None = None
    timeout_s: float | None = None
    limits: Limits | None = None


async def run_in_time(keeper: Keeper, spec: Spec, job_id: str = "") -> RunResult:
    """Run to the end and return what came of it.

    With a job's name the result is held: `result_in_time` returns it again, also to a
    later api, until it is forgotten.

    Raises:
        TimeLimitError: The limit passed; nothing of it is left alive.
        TooManyError: As many commands as the agent allows are running.
        StorageFullError: There is no room for the script.
    """
    if job_id:
        spec = msgspec.structs.replace(spec, id=job_id, held=True)
    return await _in_time(keeper, await keeper.run(spec), is_held=bool(job_id))


async def result_in_time(keeper: Keeper, job_id: str) -> RunResult:
    """Return what came of a run that is held, once it has ended.

    Raises:
        NotFoundError: There is no such job.
        TimeLimitError: The limit passed; nothing of it is left alive.
    """
    return await _in_time(keeper, await keeper.result(job_id), is_held=True)


async def _in_time(keeper: Keeper, result: RunResult, *, is_held: bool) -> RunResult:
    if result.reason == "timeout":
        if not is_held:
            await keeper.forget(result.job_id)
        raise TimeLimitError("command execution timeout", code=TIMEOUT_CODE)
    return result


class Executor:
    """Runs commands through the keeper.

    Args:
        keeper: Who starts them.
        work_dir: The absolute directory that relative ones resolve against.
        result_max_bytes: Output kept of one command; of more, the head and the tail.
        bounds: What any command may use.
    """

    def __init__(
        self, keeper: Keeper, work_dir: str, result_max_bytes: int, bounds: Bounds
    ) -> None:
        self._keeper = keeper
        self._work_dir = work_dir
        self._result_max_bytes = result_max_bytes
        self._bounds = bounds
        self._shells = Shells(keeper)

    async def run(self, command: Command, job_id: str = "") -> RunResult:
        """Run a command and return how it ended and what it wrote.

        A command that could not be started is no error: its exit code is -1. When the
        caller is cancelled, the command goes on. With a job's name the result is held,
        as in `run_in_time`.

        Raises:
            InvalidRequestError: A blank command, or what no process can be given.
            TimeLimitError: The limit passed; nothing of the command is left alive.
            TooManyError: As many commands as the agent allows are running.
        """
        return await run_in_time(self._keeper, await self._spec(command), job_id)

    async def result(self, job_id: str) -> RunResult:
        """Return the result of a command that is held; as `result_in_time`."""
        return await result_in_time(self._keeper, job_id)

    async def forget(self, result: RunResult) -> None:
        """Drop what the keeper still holds of a result."""
        await self._keeper.forget(result.job_id)

    async def _spec(self, command: Command) -> Spec:
        if not command.line.strip():
            raise InvalidRequestError("command cannot be empty or whitespace-only")
        environment = dict(command.environment or {})
        check_variables(environment)
        wrapped = unwrap(command.line)
        if wrapped is not None:
            shell, script = "sh", wrapped.command
            environment.update(wrapped.environment)
        else:
            shell = await self._shells.choose()
            script = command.line.encode("utf-8", "surrogateescape")
        if b"\0" in script or "\0" in (command.cwd or ""):
            raise InvalidRequestError("command and cwd cannot contain a NUL character")
        timeout_s = self._bounds.timeout_s(command.timeout_s)
        fits = len(script) <= ARGUMENT_MAX_BYTES
        return Spec(
            argv=[shell, "-c", script] if fits else [shell],
            script=None if fits else script,
            cwd=os.path.join(self._work_dir, command.cwd or ""),  # noqa: PTH118
            env=environment or None,
            timeout_s=math.ceil(timeout_s) if timeout_s else None,
            max_bytes=output_bytes(self._result_max_bytes, command.limits),
            limits=self._bounds.limits(command.limits),
            kind="command",
        )

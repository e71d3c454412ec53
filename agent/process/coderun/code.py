"""Runs code of a language to its end: the noun behind `/process/code-run`."""

import errno
import math
from collections.abc import Mapping, Sequence

import msgspec

from agent.errors import InvalidRequestError
from agent.keeper.client import Keeper, RunResult, Spec
from agent.process.coderun.runtimes import RUNTIMES, Runtime
from agent.process.execute import result_in_time, run_in_time
from agent.process.limits import Bounds, output_bytes
from agent.process.models import Limits
from agent.system.environment import check_variables

NOT_FOUND = 127
"""What a shell answers when there is no such program."""


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Code with how to run it.

    Attributes:
        text: The code itself.
        language: A name from `RUNTIMES`.
        arguments: What the code sees as its own.
        environment: What it has besides the environment of all commands.
        timeout_s: After this its whole tree is killed; None or 0 is no limit.
        limits: What else it may use.
    """

    text: str
    language: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    timeout_s: float | None = None
    limits: Limits | None = None


class CodeRunner:
    """Runs code through the keeper.

    Args:
        keeper: Who starts it.
        work_dir: The absolute directory that it runs in.
        result_max_bytes: Output kept of one run; of more, the head and the tail.
        bounds: What any command may use.
    """

    def __init__(
        self, keeper: Keeper, work_dir: str, result_max_bytes: int, bounds: Bounds
    ) -> None:
        self._keeper = keeper
        self._work_dir = work_dir
        self._result_max_bytes = result_max_bytes
        self._bounds = bounds

    async def run(self, code: Code, job_id: str = "") -> RunResult:
        """Run code and return how it ended, what it wrote and what it drew.

        A missing interpreter is no error: its exit code is 127, and that of what could
        not be started for another reason -1. When the caller is cancelled, the code goes
        on. With a job's name the result is held, as in `run_in_time`.

        Raises:
            InvalidRequestError: No such language, no code, or what no process can be
                given.
            TimeLimitError: The limit passed; nothing of the code is left alive.
            TooManyError: As many commands as the agent allows are running.
            StorageFullError: There is no room for the code.
        """
        result = await run_in_time(self._keeper, self._spec(code), job_id)
        if result.errno == errno.ENOENT and result.error.startswith("exec "):
            exit_ = msgspec.structs.replace(result.exit, exit_code=NOT_FOUND)
            return msgspec.structs.replace(result, exit=exit_)
        return result

    async def result(self, job_id: str) -> RunResult:
        """Return the result of code that is held; as `result_in_time`."""
        return await result_in_time(self._keeper, job_id)

    async def forget(self, result: RunResult) -> None:
        """Drop what the keeper still holds of a result."""
        await self._keeper.forget(result.job_id)

    async def forget_job(self, job_id: str) -> None:
        """Drop what the keeper still holds of a run that was held."""
        await self._keeper.forget(job_id)

    def _spec(self, code: Code) -> Spec:
        runtime = _runtime_of(code)
        environment = dict(code.environment or {})
        check_variables(environment)
        if any("\0" in each for each in code.arguments):
            raise InvalidRequestError("argv cannot contain a NUL character")
        timeout_s = self._bounds.timeout_s(code.timeout_s)
        return Spec(
            argv=runtime.argv(code.arguments),
            script=code.text.encode("utf-8", "surrogateescape"),
            control=runtime.draws,
            cwd=self._work_dir,
            env=environment or None,
            timeout_s=math.ceil(timeout_s) if timeout_s else None,
            max_bytes=output_bytes(self._result_max_bytes, code.limits),
            limits=self._bounds.limits(code.limits),
            kind="code",
        )


def _runtime_of(code: Code) -> Runtime:
    runtime = RUNTIMES.get(code.language)
    if runtime is None:
        raise InvalidRequestError(f"unsupported language: {code.language}")
    if not code.text:
        raise InvalidRequestError("code cannot be empty")
    return runtime

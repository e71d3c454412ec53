"""Sessions as clients know them, the entrypoint's included."""

import math
import os
import shlex
import signal as signals
from uuid import uuid4

import msgspec

from agent.errors import (
    ConflictError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    TimeLimitError,
)
from agent.keeper.client import Exit, Job, Keeper
from agent.keeper.session_client import CommandSpec, KeptSessions, ShellSpec
from agent.keeper.shapes import SessionCommand
from agent.process.execute import TIMEOUT_CODE
from agent.process.limits import Bounds, of_request, output_bytes
from agent.process.models import Limits
from agent.process.shell import Shells
from agent.sessions.logs import Snapshot

ENTRYPOINT = "entrypoint"
"""The session of the image's own command; also the name of its job."""
ENTRYPOINT_COMMAND = "entrypoint_command"

NOT_FOUND = "PROCESS_NOT_FOUND"
ENDED = "SESSION_ENDED"
COMPLETED = "COMMAND_ALREADY_COMPLETED"


class CommandState(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it is now.

    Attributes:
        id: Its name on the wire.
        text: As it was sent.
        job: What the keeper knows of it.
        takes_input: Whether it was started to take input.
    """

    id: str
    text: str
    job: Job
    takes_input: bool

    @property
    def exit(self) -> Exit | None:
        """How it ended, with all its output; None while it has not."""
        return self.job.exit


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A command to be run.

    Attributes:
        text: What the shell is to run.
        id: Its name, which no other command has; empty: one is made.
        echo: What is written to its input goes into its log too.
        timeout_s: After this what it runs is killed; None or 0 is no limit.
        limits: What else it may use.
    """

    text: str
    id: str = ""
    echo: bool = False
    timeout_s: float | None = None
    limits: Limits | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was waited for."""

    id: str
    exit_code: int
    log: Snapshot


class Sessions:
    """All sessions.

    Args:
        keeper: Who has them.
        work_dir: Where their shells begin.
        entrypoint: The image's own command, or nothing.
        grace_s: Between asking and killing, when one is deleted.
        log_max_bytes: Output kept of one command.
        bounds: What any command may use.
    """

    def __init__(
        self,
        keeper: Keeper,
        work_dir: str,
        *,
        entrypoint: tuple[str, ...],
        grace_s: float,
        log_max_bytes: int,
        bounds: Bounds,
    ) -> None:
        self.keeper = keeper
        self._kept = KeptSessions(keeper)
        self._shells = Shells(keeper)
        self._work_dir = work_dir
        self._entrypoint = entrypoint
        self._grace_s = grace_s
        self._log_max_bytes = log_max_bytes
        self._bounds = bounds

    async def create(
        self, session_id: str, *, at_home: bool, limits: Limits | None = None
    ) -> None:
        """Start a session.

        Args:
            session_id: The client's name for it.
            at_home: Its shell begins in the home directory, not in the work dir.
            limits: What the whole session may use.

        Raises:
            InvalidRequestError: The name is the entrypoint's.
            ConflictError: There is one of that name.
            StartError: Its shell cannot be started.
            TooManyError: As many commands as the agent allows are running.
        """
        if session_id == ENTRYPOINT:
            raise InvalidRequestError("session id entrypoint is reserved")
        shell = await self._shells.choose()
        is_zsh = os.path.basename(shell).startswith("zsh")  # noqa: PTH119
        spec = ShellSpec(
            argv=[shell],
            plain_argv=[shell, "-f"] if is_zsh else [shell],
            prefix="builtin" if is_zsh else "command",
            cwd=await self._home() if at_home else self._work_dir,
            limits=self._bounds.limits(limits),
        )
        await self._kept.create(session_id, spec)

    async def _home(self) -> str:
        variables = await self.keeper.environment()
        # A shell cannot begin in a directory that is not there.
        home = variables.get("HOME") or os.path.expanduser("~")  # noqa: ASYNC240, PTH111
        return home if os.path.isdir(home) else self._work_dir  # noqa: ASYNC240, PTH112

    async def list(self) -> list[tuple[str, tuple[SessionCommand, ...]]]:
        """Return all sessions but the entrypoint's, with their commands."""
        found = []
        for state in await self._kept.all():
            try:
                found.append((state.name, (await self._kept.info(state.name))[1]))
            except NotFoundError:
                # Deleted meanwhile.
                continue
        return found

    async def get(self, session_id: str) -> tuple[SessionCommand, ...]:
        """Return the commands of a session, in the order of their start.

        Raises:
            NotFoundError: There is no such session.
        """
        if session_id == ENTRYPOINT:
            state = await self.command(ENTRYPOINT, ENTRYPOINT_COMMAND)
            code = state.exit.exit_code if state.exit is not None else None
            return (SessionCommand(id=state.id, text=state.text, exit_code=code),)
        try:
            return (await self._kept.info(session_id))[1]
        except NotFoundError as error:
            raise _not_found(error.message) from error

    async def delete(self, session_id: str) -> None:
        """End a session and all that came of it.

        Raises:
            InvalidRequestError: It is the entrypoint's.
            NotFoundError: There is no such session.
        """
        if session_id == ENTRYPOINT:
            raise InvalidRequestError("can't delete entrypoint session")
        try:
            await self._kept.end(session_id, self._grace_s)
        except NotFoundError as error:
            raise _not_found(error.message) from error

    # -- commands -----------------------------------------------------------------

    async def run(self, session_id: str, order: Order) -> Outcome:
        """Run a command to its end; it goes on when the caller is cancelled.

        Raises:
            InvalidRequestError: A blank command, or the entrypoint's session.
            NotFoundError: There is no such session.
            GoneError: Its shell has ended, or it was deleted meanwhile.
            TimeLimitError: The limit passed; the command's processes were killed.
            TooManyError: Too many commands wait in the session.
            StorageFullError: There is no room for the text.
        """
        spec = self._spec(session_id, order, takes_input=False)
        try:
            how, first = await self._kept.run(session_id, spec)
        except (NotFoundError, GoneError) as error:
            raise _refined(error) from error
        return self._outcome(spec.id, how, Snapshot(self.keeper, spec.id, first))

    async def outcome(self, session_id: str, command_id: str) -> Outcome:
        """Return what came of a command that was started, once it has ended.

        Raises: as `run`.
        """
        await self.command(session_id, command_id)
        try:
            how = await self.keeper.wait(command_id)
            log = await Snapshot.take(self.keeper, command_id)
        except NotFoundError as error:
            raise GoneError("session has ended", code=ENDED) from error
        return self._outcome(command_id, how, log)

    def _outcome(self, command_id: str, how: Exit, log: Snapshot) -> Outcome:
        if how.reason == "timeout":
            raise TimeLimitError(
                f"command execution timeout (command {command_id})", code=TIMEOUT_CODE
            )
        if how.reason in {"deleted", "not-started"}:
            raise GoneError("session has ended", code=ENDED)
        return Outcome(id=command_id, exit_code=how.exit_code, log=log)

    async def start(self, session_id: str, order: Order) -> str:
        """Start a command that takes input, and return its id.

        Raises: as `run`, but for what happens later.
        """
        spec = self._spec(session_id, order, takes_input=True)
        try:
            await self._kept.start(session_id, spec)
        except (NotFoundError, GoneError) as error:
            raise _refined(error) from error
        return spec.id

    def _spec(self, session_id: str, order: Order, *, takes_input: bool) -> CommandSpec:
        if not order.text.strip():
            raise InvalidRequestError("command cannot be empty")
        if "\0" in order.text:
            raise InvalidRequestError("command cannot contain a NUL character")
        if session_id == ENTRYPOINT:
            raise InvalidRequestError("can't execute command in entrypoint session")
        limit_s = self._bounds.timeout_s(order.timeout_s)
        # Our own bounds are the session's, which every command has anyhow.
        asked = of_request(order.limits)
        return CommandSpec(
            id=order.id or str(uuid4()),
            text=order.text.encode("utf-8", "surrogateescape"),
            takes_input=takes_input,
            echoes=order.echo,
            timeout_s=math.ceil(limit_s) if limit_s else None,
            max_bytes=output_bytes(self._log_max_bytes, order.limits),
            limits=asked,
        )

    async def command(self, session_id: str, command_id: str) -> CommandState:
        """Return a command as it is now.

        Raises:
            NotFoundError: There is no such session, or no such command in it.
        """
        if session_id == ENTRYPOINT:
            return await self._entrypoint_state(command_id)
        try:
            job, text, takes_input = await self._kept.command(session_id, command_id)
        except NotFoundError as error:
            raise _not_found(error.message) from error
        return CommandState(id=command_id, text=text, job=job, takes_input=takes_input)

    async def _entrypoint_state(self, command_id: str) -> CommandState:
        try:
            job = await self.keeper.info(ENTRYPOINT)
        except NotFoundError as error:
            raise _not_found("session not found") from error
        if command_id != ENTRYPOINT_COMMAND:
            raise _not_found("command not found")
        text = shlex.join(self._entrypoint)
        return CommandState(id=command_id, text=text, job=job, takes_input=False)

    # -- input and signals --------------------------------------------------------

    async def send(self, session_id: str, command_id: str, data: str) -> None:
        """Queue input for a command; a newline ends it in any case.

        Raises:
            InvalidRequestError: The command takes no input.
            NotFoundError: There is no such session or command.
            GoneError: The command has ended.
            TooLargeError: It does not read what is queued.
        """
        line = data if data.endswith("\n") else f"{data}\n"
        await self._taking_input(session_id, command_id)
        try:
            await self.keeper.write(command_id, line.encode("utf-8", "surrogateescape"))
        except ConflictError:
            await self._taking_input(session_id, command_id)
            raise

    async def end_input(self, session_id: str, command_id: str) -> None:
        """Give a command the end of its input. Raises: as `send`."""
        await self._taking_input(session_id, command_id)
        try:
            await self.keeper.close_stdin(command_id)
        except ConflictError:
            await self._taking_input(session_id, command_id)
            raise

    async def _taking_input(self, session_id: str, command_id: str) -> None:
        """Refuse, with the reason, when a command takes no input."""
        if session_id == ENTRYPOINT:
            raise InvalidRequestError("can't send input to entrypoint session")
        state = await self._unended(session_id, command_id)
        if not state.takes_input:
            raise InvalidRequestError("the command was not started to take input")

    async def signal(self, session_id: str, command_id: str, wanted: str | int) -> None:
        """Signal what a command runs; the shell itself when it runs nothing else.

        Raises:
            InvalidRequestError: It is no signal, or the entrypoint's session.
            NotFoundError: There is no such session or command.
            ConflictError: The command waits for its turn.
            GoneError: The command has ended; nothing was signalled.
        """
        number = signal_number(wanted)
        if session_id == ENTRYPOINT:
            raise InvalidRequestError("can't signal entrypoint session")
        await self._unended(session_id, command_id)
        try:
            await self.keeper.signal(command_id, number)
        except ConflictError:
            await self._unended(session_id, command_id)
            raise

    async def _unended(self, session_id: str, command_id: str) -> CommandState:
        state = await self.command(session_id, command_id)
        if state.exit is None:
            return state
        if state.exit.reason in {"not-started", "deleted"}:
            raise GoneError("session has ended", code=ENDED)
        raise GoneError(
            f"command has already completed with exit code {state.exit.exit_code}",
            code=COMPLETED,
        )


def signal_number(wanted: str | int) -> int:
    """Return a signal's number.

    Raises:
        InvalidRequestError: There is no such signal.
    """
    if isinstance(wanted, str) and not (wanted.isascii() and wanted.isdecimal()):
        name = wanted.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name in signals.Signals.__members__:
            return signals.Signals[name].value
    elif int(wanted) in signals.valid_signals():
        return int(wanted)
    raise InvalidRequestError(f"no such signal: {wanted}")


def _not_found(message: str) -> NotFoundError:
    return NotFoundError(message, code=NOT_FOUND)


def _refined(error: NotFoundError | GoneError) -> NotFoundError | GoneError:
    if isinstance(error, GoneError):
        return GoneError("session has ended", code=ENDED)
    return _not_found(error.message)

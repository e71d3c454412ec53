"""The api's side of what the keeper does for sessions."""

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from agent.keeper.answers import exit_of, job_of, limits_of, piece_of
from agent.keeper.client import Keeper
from agent.keeper.frames import Header, Json, load
from agent.keeper.shapes import (
    DEFAULT_MAX_BYTES,
    Exit,
    Job,
    Limits,
    Piece,
    SessionCommand,
    SessionState,
)


class ShellSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The shell of a new session.

    Attributes:
        argv: The shell.
        plain_argv: The same without its start-up files.
        prefix: What has it take a builtin for one (`command`, or `builtin` in zsh).
        cwd: Its directory.
        env: Variables besides those of the base environment.
        limits: What the whole session may use.
    """

    argv: Sequence[str]
    plain_argv: Sequence[str]
    prefix: str
    cwd: str
    env: Mapping[str, str] | None = None
    limits: Limits | None = None


class CommandSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A new command of a session.

    Attributes:
        id: A name that no other job has.
        text: What the shell is to run.
        takes_input: Whether its input is a pipe, else the null device.
        echoes: Whether input goes into its log too, as stdout.
        timeout_s: After this its processes are killed.
        max_bytes: Output kept, the beginning of it.
        limits: What it may use, process by process.
    """

    id: str
    text: bytes
    takes_input: bool
    echoes: bool
    timeout_s: float | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    limits: Limits | None = None


class KeptSessions:
    """The keeper's sessions.

    Args:
        keeper: The line to it.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def create(self, name: str, spec: ShellSpec) -> SessionState:
        """Start a session.

        Raises:
            ConflictError: There is one of that name.
            StartError: Its shell cannot be started.
            TooManyError: As many jobs as allowed are running.
        """
        header: Header = {
            "session": name,
            "kind": "session",
            "label": name,
            "argv": list(spec.argv),
            "plain": list(spec.plain_argv),
            "prefix": spec.prefix,
            "cwd": spec.cwd,
            "env": dict(spec.env) if spec.env else None,
            "limits": limits_of(spec.limits),
        }
        answer, _ = await self._keeper.request("session.create", b"", header)
        return _state_of(answer["session"])

    async def all(self) -> tuple[SessionState, ...]:
        """Return all sessions, oldest first."""
        _, payload = await self._keeper.request("session.list")
        return tuple(map(_state_of, cast("list[Json]", load(payload)["sessions"])))

    async def info(self, name: str) -> tuple[SessionState, tuple[SessionCommand, ...]]:
        """Return a session and its commands, in the order of their start.

        Raises:
            NotFoundError: There is no such session.
        """
        commands: list[SessionCommand] = []
        first = 0
        while True:
            question: Header = {"session": name, "first": first}
            answer, payload = await self._keeper.request("session.info", b"", question)
            told = load(payload)
            page = cast("list[Header]", told["commands"])
            commands += [SessionCommand(**each) for each in page]  # type: ignore[arg-type] # the keeper's own words
            first = cast("int", told["next"])
            if first < 0:
                return _state_of(answer["session"]), tuple(commands)

    async def command(self, name: str, command_id: str) -> tuple[Job, str, bool]:
        """Return a command: as a job, its text, and whether it takes input.

        Raises:
            NotFoundError: There is no such session, or no such command in it.
        """
        question: Header = {"session": name, "job": command_id}
        answer, text = await self._keeper.request("session.command", b"", question)
        return (
            job_of(answer["job"]),
            text.decode("utf-8", "surrogateescape"),
            cast("bool", answer["takes_input"]),
        )

    async def start(self, name: str, spec: CommandSpec) -> None:
        """Queue a command.

        Raises:
            NotFoundError: There is no such session.
            GoneError: Its shell has ended.
            TooManyError: Too many commands wait in it.
            StorageFullError: There is no room for the text.
        """
        await self._keeper.request("session.exec", spec.text, _header(name, spec))

    async def run(self, name: str, spec: CommandSpec) -> tuple[Exit, Piece]:
        """Run a command to its end; return that and the first piece of its output.

        When the caller is cancelled the command goes on.

        Raises:
            NotFoundError: There is no such session.
            GoneError: Its shell has ended.
            TooManyError: Too many commands wait in it.
            StorageFullError: There is no room for the text.
        """
        header = {**_header(name, spec), "wait": True}
        answer, payload = await self._keeper.request("session.exec", spec.text, header)
        return exit_of(answer["exit"]), piece_of(answer, payload)

    async def end(self, name: str, grace_s: float) -> int:
        """End a session with all that came of it, and forget its commands.

        Returns:
            The number of processes that could not be killed.

        Raises:
            NotFoundError: There is no such session.
        """
        question: Header = {"session": name, "grace_s": grace_s}
        answer, _ = await self._keeper.request("session.end", b"", question)
        return cast("int", answer["left"])


def _header(name: str, spec: CommandSpec) -> Header:
    return {
        "session": name,
        "job": spec.id,
        "input": spec.takes_input,
        "echo": spec.echoes,
        "timeout_s": spec.timeout_s,
        "max_bytes": spec.max_bytes,
        "limits": limits_of(spec.limits),
    }


def _state_of(told: Json) -> SessionState:
    facts = dict(cast("Header", told))
    return SessionState(name=cast("str", facts.pop("session")), **facts)  # type: ignore[arg-type] # as above

"""All sessions, and what an api may ask of them.

`session.create`, `session.list`, `session.info`, `session.exec` and `session.end`; a
command of a session is a job too, so that its output, its input and its end are asked for
as with any other.
"""

import os
from collections.abc import Callable

from agent.keeper import fields
from agent.keeper.accounts import first_word
from agent.keeper.command import Command
from agent.keeper.errors import Refusal
from agent.keeper.frames import Header, Json
from agent.keeper.job import Job
from agent.keeper.jobs import MAX_BYTES, Jobs
from agent.keeper.limits import Limits
from agent.keeper.loop import Loop
from agent.keeper.session import Session
from agent.keeper.state import State

PAGE_BYTES = 1024 * 1024
"""Texts of commands told at a time."""

PIECE_BYTES = 256 * 1024
"""Output that comes with the end of a command that is waited for; the rest is read."""


class Sessions:
    """The sessions of one keeper.

    Args:
        loop: The keeper's loop.
        state: Who makes files.
        jobs: Who starts shells and knows the commands.
    """

    def __init__(self, loop: Loop, state: State, jobs: Jobs) -> None:
        self._loop = loop
        self._state = state
        self._jobs = jobs
        self._by_name: dict[str, Session] = {}
        self._life = os.urandom(4).hex()
        self._count = 0

    def create(self, header: Header) -> Session:
        """Start a session.

        Raises:
            Refusal: `conflict`, when there is one of that name; it cannot be started.
        """
        name = fields.text(header, "session")
        if name in self._by_name:
            raise Refusal("conflict", "session already exists")
        self._count += 1
        directory = self._state.spool_path(f"{self._life}-s{self._count}")
        try:
            session = Session(
                self._loop, self._state, self._jobs, name, directory, header
            )
        except BaseException:
            self._state.drop(directory)
            raise
        self._by_name[name] = session
        told: Header = {"session": name, "pid": session.shell.pid}
        self._jobs.accounts.tell("session.created", told)
        return session

    def get(self, header: Header) -> Session:
        """Return the session that a header names.

        Raises:
            Refusal: There is none.
        """
        session = self._by_name.get(fields.text(header, "session"))
        if session is None:
            raise Refusal("not-found", "session not found")
        return session

    def all(self) -> list[Session]:
        """Return all sessions, oldest first."""
        return list(self._by_name.values())

    def run(self, header: Header, text: bytes) -> Command:
        """Queue a command in a session.

        Raises:
            Refusal: There is no such session, it has ended, or it can take no more.
        """
        session = self.get(header)
        job_id = fields.text(header, "job")
        max_bytes = max(0, fields.whole(header, "max_bytes", MAX_BYTES))
        command = Command(
            self._loop,
            job_id,
            self._jobs.new_log(job_id, max_bytes),
            text,
            takes_input=fields.flag(header, "input"),
            echoes=fields.flag(header, "echo"),
        )
        command.terms.label = session.name
        command.terms.told = {"session": session.name}
        command.terms.program = first_word(text)
        command.terms.limits = Limits.of(header)
        command.timeout_s = fields.seconds(header, "timeout_s")
        session.run(command)
        return command

    def end(self, header: Header, done: Callable[[int], None]) -> None:
        """End a session and all that came of it; `done` hears what could not be."""
        session = self.get(header)

        def over(left: int) -> None:
            if self._by_name.get(session.name) is session:
                del self._by_name[session.name]
                told: Header = {"session": session.name, "left": left}
                self._jobs.accounts.tell("session.deleted", told)
            done(left)

        session.end(fields.seconds(header, "grace_s") or 0.0, over)


def page(session: Session, first: int) -> tuple[list[Json], int]:
    """Return commands from number `first` on, and where to go on, or -1."""
    told: list[Json] = []
    size = 0
    for number, command in enumerate(list(session.commands.values())[first:], first):
        if size > PAGE_BYTES:
            return told, number
        text = session.text_of(command)
        size += len(text) + 64
        told.append(
            {
                "id": command.id,
                "text": text.decode("utf-8", "surrogateescape"),
                "exit_code": exit_code(command),
            }
        )
    return told, -1


def exit_code(job: Job) -> int | None:
    """Return the code of a job that has ended, with all its output."""
    if job.exit is None or job.state != "finished":
        return None
    return job.exit.code

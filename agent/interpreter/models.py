"""What goes over the wire for interpreter contexts (contract 33)."""

import msgspec

from agent.wire import UNSET, Model, UnsetType

DEFAULT_TIMEOUT_S = 600.0


class ContextRequest(Model, frozen=True, kw_only=True):
    """A context to be made.

    Attributes:
        cwd: Its directory; empty is the work dir.
        language: `python`, `javascript`, `typescript` or `bash`.
    """

    cwd: str | None = None
    language: str | None = None


class InterpreterContext(Model, frozen=True, kw_only=True):
    """A context.

    Attributes:
        active: Whether its worker runs; the next execution starts it again otherwise.
    """

    id: str
    cwd: str
    created_at: str
    active: bool
    language: str


class ContextList(Model, frozen=True, kw_only=True):
    """The contexts, oldest first, without the default one."""

    contexts: list[InterpreterContext]


class Told(Model, frozen=True, kw_only=True):
    """A word on what was done."""

    message: str


class ExecuteRequest(Model, frozen=True, kw_only=True):
    """The one message of a client: what to run.

    Attributes:
        code: The code.
        context_id: Where; the default context when empty.
        timeout_s: 0 is none.
        envs: Variables for this run; null removes one.
        rich: The client wants `display` and `result` messages too.
    """

    code: str | None = None
    context_id: str | None = None
    timeout_s: float | None = msgspec.field(name="timeout", default=None)
    envs: dict[str, str | None] | None = None
    rich: bool | None = None


class Message(Model, frozen=True, kw_only=True):
    """A message to the client.

    Attributes:
        type: `stdout`, `stderr`, `error`, `control`; `display` or `result` if asked for.
        data: Of `display` and `result`: one value by media types.
        files: The same, of forms that are too large for a message: where they are.
    """

    type: str
    text: str = ""
    name: str = ""
    value: str = ""
    traceback: str = ""
    data: msgspec.Raw | UnsetType = UNSET
    files: dict[str, str] | UnsetType = UNSET


class Failure(msgspec.Struct, frozen=True):
    """An exception that the code did not catch."""

    name: str
    value: str
    traceback: str


class Word(msgspec.Struct, frozen=True):
    """What a worker says on its control pipe.

    Attributes:
        type: `more` (the next part of the code may come), `begun`, `display`, `result`,
            `done`.
        error: Of `done`.
        text: Of `display` and `result`: the value as plain text.
        data: As in `Message`.
        files: As in `Message`.
    """

    type: str
    error: Failure | None = None
    text: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")
    files: dict[str, str] = {}

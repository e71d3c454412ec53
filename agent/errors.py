"""The kinds of failure that domain code raises; `agent/web/errors.py` turns them into statuses."""


class AgentError(Exception):
    """A failure with a message for people and, where one fits, a code for clients.

    Args:
        message: Names the thing and what to do; lower case, no trailing period.
        code: A code of the wire's closed list that is more precise than the kind's own.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class InvalidRequestError(AgentError):
    """The arguments make no sense (400 `BAD_REQUEST`)."""


class InvalidBodyError(InvalidRequestError):
    """The request body is not what the route takes (400 `INVALID_REQUEST_BODY`)."""


class InvalidPathError(InvalidRequestError):
    """The path cannot name what the route works on (400 `INVALID_FILE_PATH`)."""


class UnauthorizedError(AgentError):
    """No token, or a wrong one (401)."""


class ForbiddenError(AgentError):
    """The caller may not do this (403)."""


class NotFoundError(AgentError):
    """What was named is not there (404)."""


class MethodNotAllowedError(AgentError):
    """The route exists, but not with this method (405).

    Args:
        message: What was tried.
        allowed: The methods that would work, for the `Allow` header.
    """

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class TimeLimitError(AgentError):
    """The caller's own limit passed (408)."""


class ConflictError(AgentError):
    """It exists already, or its state forbids this (409)."""


class GoneError(AgentError):
    """It existed and has ended (410)."""


class PreconditionError(AgentError):
    """A condition the caller stated does not hold (412)."""


class TooLargeError(AgentError):
    """Past a stated size (413)."""


class UnprocessableError(AgentError):
    """Understood, but it contradicts what was said before (422)."""


class UnsupportedMediaError(AgentError):
    """The body comes in a form that is not taken (415)."""


class RangeError(AgentError):
    """The range asked for lies outside the content (416).

    Args:
        message: What was asked.
        size_bytes: The size of the whole, for the `Content-Range` header.
    """

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class MisdirectedError(AgentError):
    """The Host header names somebody else (421)."""


class TooManyError(AgentError):
    """Past a stated count (429)."""


class RemoteError(AgentError):
    """Another server that the request needs cannot be reached, or broke off (502)."""


class UnavailableError(AgentError):
    """The agent cannot serve this just now; trying again may work (503)."""


class StorageFullError(AgentError):
    """The disk, or the quota, is full (507)."""

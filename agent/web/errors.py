"""The only place that knows which failure is which status, and the envelope it travels in.

The envelope and its codes are contract 00 §5-9. Every answer that is not a success has
this shape, the ones that the HTTP parser gives included.
"""

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, PayloadEncodingError

from agent import errors, wire
from agent.web.routes import JSON_TYPE

SOURCE = "DAYTONA_DAEMON"
"""The literal by which the newest SDK recognises our codes (contract 00 §5)."""

BROKEN_BODY = (web.RequestPayloadError, BadHttpMessage, PayloadEncodingError)
"""What reading a body raises when its transfer coding is wrong."""

KINDS: dict[type[BaseException], tuple[int, str]] = {
    errors.InvalidBodyError: (400, "INVALID_REQUEST_BODY"),
    errors.InvalidPathError: (400, "INVALID_FILE_PATH"),
    errors.InvalidRequestError: (400, "BAD_REQUEST"),
    errors.UnauthorizedError: (401, "UNAUTHORIZED"),
    errors.ForbiddenError: (403, "FORBIDDEN"),
    errors.NotFoundError: (404, "NOT_FOUND"),
    errors.MethodNotAllowedError: (405, "METHOD_NOT_ALLOWED"),
    errors.TimeLimitError: (408, "REQUEST_TIMEOUT"),
    errors.ConflictError: (409, "CONFLICT"),
    errors.GoneError: (410, "GONE"),
    errors.PreconditionError: (412, "PRECONDITION_FAILED"),
    errors.TooLargeError: (413, "REQUEST_ENTITY_TOO_LARGE"),
    errors.UnsupportedMediaError: (415, "UNSUPPORTED_MEDIA_TYPE"),
    errors.RangeError: (416, "REQUESTED_RANGE_NOT_SATISFIABLE"),
    errors.UnprocessableError: (422, "UNPROCESSABLE_ENTITY"),
    errors.MisdirectedError: (421, "MISDIRECTED_REQUEST"),
    errors.TooManyError: (429, "TOO_MANY_REQUESTS"),
    errors.RemoteError: (502, "BAD_GATEWAY"),
    errors.UnavailableError: (503, "SERVICE_UNAVAILABLE"),
    errors.StorageFullError: (507, "INSUFFICIENT_STORAGE"),
    errors.AgentError: (500, "INTERNAL_SERVER_ERROR"),
}

SYSTEM: dict[int, tuple[int, str, str]] = {
    errno.ENOENT: (404, "FILE_NOT_FOUND", "file not found"),
    errno.EACCES: (403, "FILE_ACCESS_DENIED", "permission denied"),
    errno.EPERM: (403, "FILE_ACCESS_DENIED", "permission denied"),
    errno.EROFS: (403, "FILE_ACCESS_DENIED", "read-only file system"),
    errno.ETXTBSY: (409, "CONFLICT", "file is being executed"),
    errno.EINVAL: (400, "INVALID_FILE_PATH", "invalid file path"),
    errno.ENAMETOOLONG: (400, "INVALID_FILE_PATH", "invalid file path: name too long"),
    errno.ELOOP: (400, "INVALID_FILE_PATH", "invalid file path: too many links"),
    errno.ENOTDIR: (400, "INVALID_FILE_PATH", "invalid file path: not a directory"),
    errno.EISDIR: (400, "INVALID_FILE_PATH", "invalid file path: is a directory"),
    errno.ENXIO: (400, "INVALID_FILE_PATH", "invalid file path: not a regular file"),
    errno.EEXIST: (409, "CONFLICT", "already exists"),
    errno.ENOTEMPTY: (409, "CONFLICT", "directory not empty"),
    errno.EBUSY: (409, "CONFLICT", "busy"),
    errno.EIO: (500, "FILE_READ_FAILED", "input/output error"),
    errno.EFBIG: (413, "REQUEST_ENTITY_TOO_LARGE", "file too large"),
    errno.ENOSPC: (507, "INSUFFICIENT_STORAGE", "no space left on device"),
    errno.EDQUOT: (507, "INSUFFICIENT_STORAGE", "disk quota exceeded"),
    errno.EMFILE: (503, "SERVICE_UNAVAILABLE", "too many open files"),
    errno.ENFILE: (503, "SERVICE_UNAVAILABLE", "too many open files"),
}


class Failure(msgspec.Struct, frozen=True):
    """A failure as the wire tells it."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]
    expected: bool
    """False when it is our fault, and so belongs in the log with its traceback."""


def failure_of(error: BaseException) -> Failure:
    """Return what the wire tells of `error`."""
    if isinstance(error, errors.AgentError):
        return _of_agent_error(error)
    if isinstance(error, OSError) and error.errno in SYSTEM:
        status, code, words = SYSTEM[error.errno]
        name = error.filename2 or error.filename
        if isinstance(name, bytes):
            name = name.decode("utf-8", "replace")
        message = f"{words}: {wire.printable(name)}" if isinstance(name, str) else words
        retry = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return Failure(status, code, message, retry, expected=True)
    if isinstance(error, BROKEN_BODY):
        return Failure(400, "BAD_REQUEST", "malformed request body", {}, expected=True)
    if isinstance(error, web.HTTPException):
        return of_status(error.status, (error.reason or "").lower())
    return Failure(
        500, "INTERNAL_SERVER_ERROR", "internal server error", {}, expected=False
    )


def of_status(status: int, message: str) -> Failure:
    """Return the failure for a status that has no kind of its own."""
    code = HTTPStatus(status).phrase.upper().replace(" ", "_").replace("-", "_")
    return Failure(status, code, message, {}, expected=True)


def _of_agent_error(error: errors.AgentError) -> Failure:
    kind = next(each for each in type(error).__mro__ if each in KINDS)
    status, code = KINDS[kind]
    headers: dict[str, str] = {}
    if isinstance(error, errors.MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    elif isinstance(error, errors.RangeError):
        headers["Content-Range"] = f"bytes */{error.size_bytes}"
    elif isinstance(error, errors.UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, errors.UnavailableError):
        headers["Retry-After"] = "1"
    return Failure(
        status,
        error.code or code,
        wire.printable(error.message),
        headers,
        expected=True,
    )


def envelope(failure: Failure, *, path: str, method: str) -> dict[str, Any]:
    """Return the JSON body of a failure (contract 00 §5)."""
    return {
        "statusCode": failure.status,
        "message": failure.message,
        "source": SOURCE,
        "code": failure.code,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "path": wire.printable(path),
        "method": method,
    }


def response_of(failure: Failure, *, path: str, method: str) -> web.Response:
    """Return the response that tells of `failure`."""
    return web.Response(
        status=failure.status,
        body=wire.encode(envelope(failure, path=path, method=method)),
        headers={"Content-Type": JSON_TYPE, **failure.headers},
    )

"""Reads the keeper's answers: refusals into typed errors, headers into shapes."""

import errno
from typing import cast

import msgspec

from agent.errors import (
    AgentError,
    ConflictError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    TooManyError,
    UnavailableError,
)
from agent.keeper.frames import Header, Json
from agent.keeper.shapes import (
    Chunk,
    Exit,
    Job,
    Limits,
    Piece,
    RunResult,
    Spec,
    SpoolFile,
)


class KeeperGoneError(UnavailableError):
    """The keeper is gone, and the api is about to be."""


class StartError(AgentError):
    """A process could not be started; the message is the system's reason.

    Args:
        message: Such as `chdir /nope: no such file or directory`.
        number: The `errno` of it.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


_KINDS: dict[str, type[AgentError]] = {
    "not-found": NotFoundError,
    "conflict": ConflictError,
    "gone": GoneError,
    "invalid": InvalidRequestError,
    "too-many": TooManyError,
    "full": TooLargeError,
}


def error_of(told: Header) -> Exception:
    """Return the error that a refusal stands for."""
    kind, message = cast("str", told["kind"]), cast("str", told["message"])
    number = cast("int", told.get("errno", 0))
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFullError(message)
    if kind == "start-failed":
        return StartError(message, number)
    if kind in _KINDS:
        return _KINDS[kind](message)
    return OSError(number, message)


def header_of(spec: Spec) -> Header:
    """Return what is to be started, as the request says it."""
    header: Header = {
        "argv": [_text(each) for each in spec.argv],
        "max_bytes": spec.max_bytes,
        "kind": spec.kind,
    }
    optional: Header = {
        "cwd": spec.cwd,
        "env": dict(spec.env) if spec.env else None,
        "timeout_s": spec.timeout_s,
        "label": spec.label or None,
        "output": spec.output,
        "stdin": spec.stdin,
        "kept": spec.kept or None,
        "unset": list(spec.unset) or None,
        "limits": limits_of(spec.limits),
        "control": spec.control or None,
        "job": spec.id or None,
        "held": spec.held or None,
        "live": spec.live or None,
        "told": dict(spec.told) if spec.told else None,
    }
    header.update(
        {name: value for name, value in optional.items() if value is not None}
    )
    if spec.output == "pty":
        header["rows"], header["columns"] = spec.rows, spec.columns
    return header


def limits_of(limits: Limits | None) -> Header | None:
    """Return the bounds as a request says them."""
    return None if limits is None else msgspec.structs.asdict(limits)


def _text(argument: str | bytes) -> str:
    if isinstance(argument, str):
        return argument
    return argument.decode("utf-8", "surrogateescape")


def exit_of(told: Json) -> Exit:
    """Return how a job ended."""
    record = cast("Header", told)
    return Exit(**{name: record[name] for name in _EXIT_FIELDS})  # type: ignore[arg-type] # the keeper's own words


def job_of(told: Json) -> Job:
    """Return a job."""
    summary = dict(cast("Header", told))
    ended = summary.pop("exit")
    return Job(exit=exit_of(ended) if ended else None, **summary)  # type: ignore[arg-type] # as above


def piece_of(header: Header, payload: bytes) -> Piece:
    """Return a piece of a job's output."""
    chunks = []
    start = 0
    for run in cast("list[tuple[int, int, float, int]]", header["runs"]):
        offset, stream, at, size = run
        content = payload[start : start + size]
        chunks.append(Chunk(offset=offset, stream=stream, time=at, data=content))
        start += size
    return Piece(
        chunks=tuple(chunks),
        size=cast("int", header["size"]),
        dropped_bytes=cast("int", header["dropped_bytes"]),
        closed=cast("bool", header["closed"]),
    )


def result_of(header: Header, payload: bytes) -> RunResult:
    """Return what came of a run."""
    if header["reason"] == "start-failed":
        return RunResult(
            job_id="",
            exit=_NEVER,
            output=b"",
            spool=None,
            error=cast("str", header["message"]),
            errno=cast("int", header["errno"]),
        )
    control_bytes = cast("int", header["control_bytes"])
    spool = None
    if "spool" in header:
        spool = SpoolFile(
            path=cast("str", header["spool"]),
            head_bytes=cast("int", header["head_bytes"]),
            tail_bytes=cast("int", header["tail_bytes"]),
            tail_start=cast("int", header["tail_start"]),
        )
    return RunResult(
        job_id=cast("str", header["job"]),
        exit=exit_of(header),
        output=payload[control_bytes:],
        control=payload[:control_bytes],
        spool=spool,
        error="",
        errno=0,
    )


_EXIT_FIELDS = Exit.__struct_fields__

_NEVER = Exit(
    exit_code=-1,
    signal=0,
    reason="start-failed",
    started=0.0,
    ended=0.0,
    duration_s=0.0,
    output_bytes=0,
    dropped_bytes=0,
    user_s=0.0,
    system_s=0.0,
    max_rss_bytes=0,
)

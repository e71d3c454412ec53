"""JSON-RPC messages without types: plain data in, plain data out.

What a message carries stays as it came until somebody asks, so that an answer of megabytes
is decoded once, by who needs it, and away from the loop. Nothing a server says may be
lost because of its spelling: bytes that are no UTF-8 and lone surrogates become U+FFFD.
"""

import json

import msgspec

Id = int | str | None
NULL = msgspec.Raw(b"null")


class UnreadableError(Exception):
    """It is no JSON, or no message."""


class ErrorBody(msgspec.Struct):
    """What a server answers when it refuses."""

    code: int | float = -32603
    message: str = ""


class Message(msgspec.Struct):
    """A request, a notification or an answer."""

    id: int | str | float | None = None
    method: str | None = None
    params: msgspec.Raw = NULL
    result: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_decode_message = msgspec.json.Decoder(Message).decode
_decode_error = msgspec.json.Decoder(ErrorBody).decode


def read(body: bytes) -> Message:
    """Return the message in `body`.

    Raises:
        UnreadableError: There is none.
    """
    try:
        return _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return _decode_message(_cleaned(body))
        except (msgspec.DecodeError, UnicodeDecodeError, UnreadableError) as error:
            raise UnreadableError("it sent a message that cannot be read") from error


def plain(raw: msgspec.Raw | bytes) -> object:
    """Return what a message carries as plain data.

    Raises:
        UnreadableError: It is no JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return msgspec.json.decode(_cleaned(bytes(raw)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableError("it sent a message that cannot be read") from error


def error_of(raw: msgspec.Raw) -> ErrorBody | None:
    """Return the error of an answer, or None when it is none."""
    if bytes(raw) == b"null":
        return None
    try:
        return _decode_error(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ErrorBody(message="an error that cannot be read")


def _cleaned(body: bytes) -> bytes:
    """Return JSON with everything replaced that is no Unicode.

    Raises:
        UnreadableError: It is no JSON.
    """
    try:
        value = json.loads(body.decode("utf-8", "replace"))
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("it sent a message that cannot be read") from error
    # A lone surrogate passes as three bytes that decode to as many U+FFFD.
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()

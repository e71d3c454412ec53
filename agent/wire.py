"""The base of all wire models and the JSON codec.

Names on the wire are camelCase; a field whose wire name differs says so with
`msgspec.field(name=...)`. `null` and an absent key mean the same on the way in;
a field of type `... | UnsetType` with default `UNSET` is left out on the way out.
"""

from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from agent.errors import InvalidBodyError

__all__ = ["UNSET", "Model", "UnsetType", "decode", "encode", "printable"]


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every shape that crosses the wire."""


M = TypeVar("M")

_encoder = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """Return `value` (models, or plain data) as JSON.

    Strings must be valid Unicode; names from the file system go through
    `printable` first.
    """
    return _encoder.encode(value)


def decode(body: bytes, shape: type[M]) -> M:
    """Return the JSON object in `body` as `shape`.

    Raises:
        InvalidBodyError: Not JSON, a missing key, a wrong type, or an empty body.
    """
    if not body.strip():
        raise InvalidBodyError("request body is empty")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidBodyError(f"invalid request body: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidBodyError(f"request body is not valid JSON: {error}") from error


def printable(name: str) -> str:
    """Return a file-system name with every byte that is not UTF-8 as U+FFFD."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return name

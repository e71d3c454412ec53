"""The base of all wire models and the JSON codec.

Names on the wire are camelCase; a field whose wire name differs says so with
`msgspec.field(name=...)`. `null` and an absent key mean the same on the way in;
a field of type `... | UnsetType` with default `UNSET` is left out on the way out.
"""

import re
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from agent.errors import InvalidBodyError

__all__ = [
    "UNSET",
    "Model",
    "SnakeModel",
    "UnsetType",
    "decode",
    "encode",
    "printable",
]


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every shape that crosses the wire."""


def _as_it_is(name: str) -> str:
    return name


class SnakeModel(Model, frozen=True, kw_only=True, rename=_as_it_is):
    """Base of request bodies with snake_case names; camelCase is understood as well.

    Git's published requests alone are so (contract 20 §0), and ours beside them.
    """


M = TypeVar("M")

_CAPITAL = re.compile("(?<=[a-z])[A-Z]")
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
        if issubclass(shape, SnakeModel):
            body = _in_snake_case(body)
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidBodyError(f"invalid request body: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidBodyError(f"request body is not valid JSON: {error}") from error


def _in_snake_case(body: bytes) -> bytes:
    found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return encode(
        {_CAPITAL.sub(lambda c: f"_{c[0].lower()}", key): found[key] for key in found}
    )


def printable(name: str) -> str:
    """Return a file-system name with every byte that is not UTF-8 as U+FFFD."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return name

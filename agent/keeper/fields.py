"""Typed reading of frame headers; whatever is not as agreed is refused, never raised."""

from agent.keeper.errors import Refusal
from agent.keeper.frames import Header


def _wrong(name: str, wanted: str) -> Refusal:
    return Refusal("invalid", f"{name} must be {wanted}")


def text(header: Header, name: str, default: str | None = None) -> str:
    """Return a string; without a default it has to be there."""
    value = header.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise _wrong(name, "a string")
    return value


def optional_text(header: Header, name: str) -> str | None:
    """Return a string, or None where there is none."""
    return None if header.get(name) is None else text(header, name)


def whole(header: Header, name: str, default: int | None = None) -> int:
    """Return a whole number that fits in 63 bits."""
    value = header.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise _wrong(name, "a whole number")
    return value


def seconds(header: Header, name: str) -> float | None:
    """Return a time span, or None where there is none."""
    value = header.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < 2**31:
        raise _wrong(name, "seconds, not negative")
    return float(value)


def flag(header: Header, name: str) -> bool:
    """Return a boolean; absent is False."""
    value = header.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def choice(header: Header, name: str, choices: tuple[str, ...]) -> str:
    """Return one of `choices`; the first is the default."""
    value = text(header, name, choices[0])
    if value not in choices:
        raise _wrong(name, "one of " + ", ".join(choices))
    return value


def raw(value: str) -> bytes:
    """Return text as the bytes that the system knows it by."""
    try:
        encoded = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Refusal("invalid", f"{value!r} is no text the system can take") from error
    if b"\0" in encoded:
        raise Refusal("invalid", "a NUL character cannot be passed to a process")
    return encoded


def arguments(header: Header, name: str) -> list[bytes]:
    """Return a list of strings, at least one, as bytes."""
    value = header.get(name)
    if not isinstance(value, list) or not value:
        raise _wrong(name, "a list of strings")
    return [raw(each) if isinstance(each, str) else _refuse(name) for each in value]


def texts(header: Header, name: str) -> list[str]:
    """Return a list of strings; absent is empty."""
    value = header.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(name, "a list of strings")
    return [each if isinstance(each, str) else _refused(name) for each in value]


def strings(header: Header, name: str) -> dict[str, str]:
    """Return an object of strings; absent is empty."""
    value = header.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object of strings")
    return {
        key: each if isinstance(each, str) else _refused(name)
        for key, each in value.items()
    }


def variables(header: Header, name: str) -> dict[bytes, bytes]:
    """Return an environment, as bytes; absent is empty."""
    value = header.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, "an object of strings")
    made: dict[bytes, bytes] = {}
    for key, each in value.items():
        if not isinstance(each, str):
            raise _wrong(f"{name}.{key}", "a string")
        if not key or "=" in key:
            raise Refusal("invalid", f"not a variable's name: {key!r}")
        made[raw(key)] = raw(each)
    return made


def _refuse(name: str) -> bytes:
    raise _wrong(name, "a list of strings")


def _refused(name: str) -> str:
    raise _wrong(name, "a list of strings")

"""Reads the command line in which SDKs before 0.155 wrapped a command and its environment.

They sent `sh -c "export K=$(echo '<base64>' | base64 -d);… echo '<base64>' | base64 -d |
sh"`, meant for a daemon that split it into arguments without a shell. Given to a shell
as it is, values with spaces are cut and values with `;` are executed. So the pattern is
recognised and taken apart here: the command runs in `sh` with the values as its real
environment (contract 30 §7.1). Anything that does not match is an ordinary command.
"""

import base64
import binascii
import re

import msgspec

_BASE64 = r"[A-Za-z0-9+/]+={0,2}"
_WRAPPER = re.compile(
    r'sh -c "(?P<exports>(?:export [^=\s]+=\$\(echo \'[A-Za-z0-9+/=]*\' \| base64 -d\);)*)'
    rf" ?echo '(?P<command>{_BASE64})' \| base64 -d \| sh\""
)
_EXPORT = re.compile(
    r"export (?P<name>[^=\s]+)=\$\(echo '(?P<value>[A-Za-z0-9+/=]*)' \| base64 -d\);"
)


class Wrapped(msgspec.Struct, frozen=True):
    """What an old SDK's command line stands for."""

    command: bytes
    environment: dict[str, str]


def unwrap(command: str) -> Wrapped | None:
    """Return what `command` wraps, or None when it is not such a wrapper."""
    if not command.startswith('sh -c "'):
        return None
    found = _WRAPPER.fullmatch(command)
    if found is None:
        return None
    try:
        environment = {
            # `$(…)` drops the newlines at the end of what it captures.
            export["name"]: _text(export["value"]).rstrip("\n")
            for export in _EXPORT.finditer(found["exports"])
        }
        return Wrapped(base64.b64decode(found["command"], validate=True), environment)
    except binascii.Error:
        return None


def _text(encoded: str) -> str:
    return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")

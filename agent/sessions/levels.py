"""How much of a command's output a client can tell apart (contract 30 §1.3).

The clients of three eras expect three formats. Which one is asked for stands in the
version of the SDK, in a header or, from a browser's websocket, in a subprotocol.
"""

import enum
import re
from collections.abc import Mapping

from agent.web.websockets import VERSION_TOKEN

VERSION_HEADER = "X-Daytona-SDK-Version"
SPLIT_HEADER = "X-Daytona-Split-Output"

FIRST_LABELLED = (0, 27, 0)
FIRST_SPLIT = (0, 167, 0)
FIRST_IN_WORK_DIR = (0, 103, 0)
"""Sessions of clients before it begin in the home directory."""

_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})")


class Level(enum.Enum):
    """A format of outputs.

    Attributes:
        COMBINED: One text, both outputs in the order they came in.
        LABELLED: The same with a marker before each piece of one output.
        SPLIT: Two texts, made by the server, besides the combined one.
    """

    COMBINED = 0
    LABELLED = 1
    SPLIT = 2


def level_of(headers: Mapping[str, str], *, websocket: bool = False) -> Level:
    """Return the format that a client can read.

    A version that cannot be read is a current client's (`unknown` is the Python SDK's own
    word); none at all on the websocket of OkHttp is the Java SDK.
    """
    version = _version(headers)
    if version:
        return _level_of_version(version)
    if websocket and headers.get("User-Agent", "").startswith("okhttp/"):
        return Level.SPLIT
    if headers.get(SPLIT_HEADER) == "true":
        return Level.LABELLED
    return Level.COMBINED


def begins_at_home(headers: Mapping[str, str]) -> bool:
    """Tell whether a client expects its sessions to begin in the home directory."""
    version = _version(headers)
    numbers = _numbers(version)
    return (
        numbers is not None and numbers < FIRST_IN_WORK_DIR and version != "0.0.0-dev"
    )


def _level_of_version(version: str) -> Level:
    numbers = _numbers(version)
    if numbers is None or "dev" in version or numbers >= FIRST_SPLIT:
        return Level.SPLIT
    # The lowest version of 0.27.0 is 0.27.0-0, so what follows the numbers is no matter.
    return Level.LABELLED if numbers >= FIRST_LABELLED else Level.COMBINED


def _version(headers: Mapping[str, str]) -> str:
    version = headers.get(VERSION_HEADER, "")
    if version:
        return version
    offered = headers.get("Sec-WebSocket-Protocol", "")
    for token in offered.split(","):
        if token.strip().startswith(VERSION_TOKEN):
            return token.strip().removeprefix(VERSION_TOKEN)
    return ""


def _numbers(version: str) -> tuple[int, ...] | None:
    found = _VERSION.match(version)
    return tuple(map(int, found.groups())) if found else None

"""Gives messages to the Python client's own demultiplexer; tells what it made of each.

Works with PyPI `daytona` 0.226.1 and 0.160.0.
"""

# mypy: disable-error-code="import-not-found, no-any-return"

import asyncio
import json
import sys
from base64 import b64decode
from typing import Any

from daytona._utils import stream


class Connection:
    """A websocket that has brought all its messages, and then ends."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = iter(messages)

    async def recv(self) -> bytes | None:
        """Return the next message."""
        message = next(self._messages, None)
        if message is None and hasattr(stream, "websockets"):
            raise stream.websockets.exceptions.ConnectionClosedOK(None, None)
        return message


async def demultiplexed(messages: list[bytes]) -> list[str]:
    heard: tuple[list[str], list[str]] = ([], [])
    connection = Connection(messages)
    callbacks: Any = [each.append for each in heard]
    if hasattr(stream, "_std_demux_loop"):
        await stream._std_demux_loop(connection.recv, *callbacks)
    else:
        await stream.std_demux_stream(connection, *callbacks)
    return ["".join(each) for each in heard]


async def main() -> None:
    cases = json.load(sys.stdin)
    told = [await demultiplexed(list(map(b64decode, case))) for case in cases]
    sys.stdout.write("\n" + json.dumps(told))


asyncio.run(main())

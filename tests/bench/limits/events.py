"""Streams events, as fast as they are taken: `python -I events.py PORT`.

Each is a chunk of its own, and all connections take turns.
"""

import asyncio
import contextlib
import sys

COUNT = 100
EVENT = b'data: {"number":0}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(HEAD)
            for _ in range(COUNT):
                writer.write(CHUNK)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")
    writer.close()


async def main() -> None:
    """Listen until killed."""
    server = await asyncio.start_server(
        serve, "127.0.0.1", int(sys.argv[1]), backlog=1024
    )
    await server.serve_forever()


asyncio.run(main())

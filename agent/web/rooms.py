"""Opens rooms when they are first asked for, so that starting waits for none of them.

A room is a module with a route table and, mostly, a context. Importing all of them takes
as long as importing aiohttp does, and most agents never use most of them. So the agent
knows beforehand only below which paths each room serves.
"""

import asyncio
import contextlib
import importlib
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from agent.web.router import Router
from agent.web.routes import Routes

Context = Callable[[web.Application], AsyncIterator[None]]


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """One room, not imported yet."""

    module: str
    """Has `routes`, and `context` when something must be open for them."""
    under: tuple[str, ...]
    """It serves these paths and all below them that no other room names."""
    after: tuple[str, ...] = ()
    """The modules of rooms whose objects its context or handlers use."""
    open_ended: bool = False
    """What follows below its paths is another server's, the trailing slash included."""
    leaves: str | None = None
    """What an agent that was killed may leave behind: something in this directory.

    It lies in the state directory; the name is empty when only an api of the same keeper
    can have left something. Such a room opens before the first answer, to clear that up
    or to take it over.
    """


class Imported(Protocol):
    """What a room's module has."""

    routes: Routes


class Rooms:
    """All rooms of one agent.

    Args:
        rooms: What there is.
    """

    def __init__(self, rooms: Iterable[Room]) -> None:
        self._rooms = {room.module: room for room in rooms}
        self._places = {
            tuple(path.split("/")[1:]): room
            for room in self._rooms.values()
            for path in room.under
        }
        self._depth = max(len(place) for place in self._places)
        self._closed = set(self._rooms)
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._stack = contextlib.AsyncExitStack()
        self.first_segments = frozenset(place[0] for place in self._places)
        self.open_ended = frozenset(
            place[0] for place, room in self._places.items() if room.open_ended
        )
        # Of what holds a room's objects. It is only ever added to, before the first
        # request that needs them goes on.
        warnings.filterwarnings(
            "ignore", "Changing state of started", DeprecationWarning
        )

    def tables(self) -> list[Routes]:
        """Import every room, open none; return the route tables in the rooms' order."""
        return [_import(module).routes for module in self._rooms]

    def closed_room(self, path: str) -> Room | None:
        """Return the room that serves a canonical path, unless it is open."""
        if not self._closed:
            return None
        room = self.room(path)
        return room if room is not None and room.module in self._closed else None

    def room(self, path: str) -> Room | None:
        """Return the room that serves a canonical path, if any does."""
        segments = tuple(path.split("/", self._depth + 1)[1 : self._depth + 1])
        for length in range(len(segments), 0, -1):
            room = self._places.get(segments[:length])
            if room is not None:
                return room
        return None

    async def open(self, room: Room, app: web.Application, router: Router) -> None:
        """Open a room and what it needs; all who ask meanwhile wait for the same.

        Raises:
            Exception: Its context failed; the next who asks tries again.
        """
        for module in room.after:
            await self.open(self._rooms[module], app, router)
        if room.module not in self._closed:
            return
        opening = self._opening.get(room.module)
        if opening is None:
            opening = asyncio.create_task(self._open(room, app, router))
            self._opening[room.module] = opening
            opening.add_done_callback(lambda _: self._opening.pop(room.module, None))
        # A client that leaves must not take the room from the others who wait.
        await asyncio.shield(opening)

    async def open_for_recovery(
        self, app: web.Application, router: Router, state_dir: str, generation: int
    ) -> None:
        """Open the rooms that may have something to clear up."""
        for room in self._rooms.values():
            if room.leaves is not None and (
                generation > 1 or (room.leaves and _has(state_dir, room.leaves))
            ):
                await self.open(room, app, router)

    async def aclose(self) -> None:
        """Close what is open, the last one first."""
        for opening in tuple(self._opening.values()):
            opening.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await self._stack.aclose()

    async def _open(self, room: Room, app: web.Application, router: Router) -> None:
        # In a thread: a large one takes twenty milliseconds.
        imported = await asyncio.to_thread(_import, room.module)
        context: Context | None = getattr(imported, "context", None)
        if context is not None:
            manager = contextlib.asynccontextmanager(context)(app)
            await self._stack.enter_async_context(manager)
        router.add(imported.routes)
        self._closed.discard(room.module)


def _import(module: str) -> Imported:
    imported: Imported = importlib.import_module(module)
    return imported


def _has(state_dir: str, name: str) -> bool:
    try:
        return any(Path(state_dir, name).iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        # The room's own clearing up will tell what is wrong.
        return True

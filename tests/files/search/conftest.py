"""The search routes, served with a real keeper behind them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.files.search import searches
from agent.files.search.searches import Found, Options, Searches
from agent.keeper.client import Keeper
from tests.keeper.harness import running
from tests.support.measuring import is_measured


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let coverage into the program that searches, when a run asks for it."""
    if is_measured():
        words = tuple(word for word in searches.INTERPRETER if word != "-S")
        monkeypatch.setattr(searches, "INTERPRETER", words)


@dataclass
class Answer:
    """A whole answer of one search."""

    found: Found
    value: Any

    @property
    def places(self) -> list[tuple[str, int]]:
        """File and line of every match."""
        return [(each["file"], each["line"]) for each in self.value]


@dataclass
class House:
    """A keeper, and searches that go through it."""

    keeper: Keeper
    work_dir: Path

    async def text(
        self, pattern: str, path: str = ".", *, engine: str = "", **options: Any
    ) -> Answer:
        """Search for a text."""
        return await self.search("text", pattern, path, engine=engine, **options)

    async def names(self, pattern: str, path: str = ".", **options: Any) -> list[str]:
        """Search for names."""
        answer = await self.search("names", pattern, path, **options)
        files: list[str] = answer.value["files"]
        return files

    async def search(
        self,
        kind: str,
        pattern: str,
        path: str = ".",
        *,
        engine: str = "",
        bounds: dict[str, Any] | None = None,
        **options: Any,
    ) -> Answer:
        """Search, and read the whole answer."""
        searches = Searches(
            self.keeper,
            str(self.work_dir),
            with_ripgrep=engine != "python",
            **(bounds or {}),
        )
        try:
            asked = await searches.prepare(kind, path, pattern, Options(**options))
            async with asked as found:
                body = b"".join([piece async for piece in found.body])
        finally:
            await searches.aclose()
        assert len(body) == found.size_bytes
        assert not engine or found.engine == engine
        return Answer(found, json.loads(body))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Return searches over a fresh work dir; no job may be left at the end."""
    async with running(tmp_path) as keeper_house:
        keeper = await keeper_house.open()
        yield House(keeper, keeper_house.work_dir)
        assert await keeper.list() == ()

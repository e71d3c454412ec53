"""Fixtures of the keeper's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.keeper.client import Keeper
from tests.keeper.harness import House, running


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Return a running keeper, whose first api has not come yet."""
    async with running(tmp_path) as house:
        yield house


@pytest.fixture
async def keeper(house: House) -> Keeper:
    """Return the line to a running keeper."""
    return await house.open()

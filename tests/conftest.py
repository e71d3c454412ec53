"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import Agent, StartAgent, starting


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start real agents (`start_agent("--option", …)`); all are stopped at the end."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    """Return one running agent."""
    return start_agent()

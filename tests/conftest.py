"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import Agent, StartAgent, starting


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "agent: starts an agent; left out by --quick",
        "alone: has a limit of time or memory; no other test may run beside it",
    ):
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start an agent by its fixture; others say it themselves."""
    for item in items:
        if "start_agent" in getattr(item, "fixturenames", ()):
            item.add_marker("agent")


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start real agents (`start_agent("--option", …)`); all are stopped at the end."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    """Return one running agent."""
    return start_agent()

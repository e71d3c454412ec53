"""The page of the API, in a real browser."""

from pathlib import Path

import pytest

from tests.support.agent import StartAgent
from tests.support.browser import text_of


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", ["/docs", "/toolbox/box/docs/"])
def test_the_page_shows_every_route_without_anything_from_outside(
    start_agent: StartAgent, tmp_path: Path, path: str
) -> None:
    agent = start_agent("--dev-port", "0", command="dev")

    shown = text_of(agent.url + path, tmp_path / "profile", "/process/execute")

    for route in ("/files/bulk-upload", "/system/metrics", "/proxy/{port}/{path}"):
        assert route in shown
    assert "Run one shell command to its end." in shown
    assert "Failed to load" not in shown

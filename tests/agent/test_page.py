"""The page of the API, in a real browser."""

import subprocess
from pathlib import Path

import pytest

from tests.support.agent import StartAgent, environment

CHROMIUM = [
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=8000",
    "--dump-dom",
]


def show(url: str, profile: Path) -> str:
    """Return the document that the browser has made of a page, scripts run."""
    ended = subprocess.run(
        [*CHROMIUM, f"--user-data-dir={profile}", url],
        env=environment(HOME=str(profile)),
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    return ended.stdout


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", ["/docs", "/toolbox/box/docs/"])
def test_the_page_shows_every_route_without_anything_from_outside(
    start_agent: StartAgent, tmp_path: Path, path: str
) -> None:
    agent = start_agent("--dev-port", "0", command="dev")

    shown = show(agent.url + path, tmp_path / "profile")

    # The page puts invisible places for line breaks into the paths.
    text = shown.replace("\u200b", "")
    for route in ("/process/execute", "/files/bulk-upload", "/system/metrics"):
        assert route in text
    assert "Run one shell command to its end." in text
    assert "Failed to load" not in text

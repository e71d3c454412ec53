"""What the dev command prints: true addresses, code that parses, and no token."""

import ast
import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from agent.dev.banner import banner
from agent.settings import Settings
from tests.clients.environments import NODE

TOKEN = "very-secret-token"

SETTINGS = {
    "made token": Settings(
        token=TOKEN, token_file="/s/token", port=4000, dev_port=4001, preview_port=4002
    ),
    "given token": Settings(token=TOKEN, port=4000, dev_port=4001, preview_port=4002),
    "odd place": Settings(
        token=TOKEN,
        token_file='/s p/it\'s "the" token',
        port=4000,
        dev_port=4001,
        preview_port=4002,
    ),
    "no token": Settings(no_auth=True, port=4000, dev_port=4001, preview_port=4002),
}


def section(text: str, title: str) -> str:
    """Return the indented lines below `title`."""
    found = re.search(rf"^{title}.*:\n((?:  .*\n)+)", text, re.MULTILINE)
    assert found, text
    return dedent(found[1])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_banner_names_both_addresses_and_never_the_token(settings: Settings) -> None:
    text = banner(settings)

    assert re.search(r"toolbox +http://127\.0\.0\.1:4000\n", text)
    assert re.search(r"control plane +http://127\.0\.0\.1:4001/api ", text)
    assert re.search(r"docs +http://127\.0\.0\.1:4000/docs\n", text)
    assert re.search(r"previews +http://127\.0\.0\.1:4002 ", text)
    assert TOKEN not in text


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_lines_to_paste_are_valid_in_their_languages(
    settings: Settings, tmp_path: Path
) -> None:
    text = banner(settings)
    script = tmp_path / "script.cjs"
    script.write_text(section(text, "JavaScript"))

    ast.parse(section(text, "Python"))
    subprocess.run([NODE, "--check", script], check=True, timeout=8)
    subprocess.run(["sh", "-n", "-c", section(text, "curl")], check=True, timeout=8)


def test_literal_ipv6_address_is_bracketed() -> None:
    text = banner(
        Settings(host="::1", token_file="/s/token", port=1, dev_port=2, preview_port=3)
    )

    assert "http://[::1]:1\n" in text
    assert "http://[::1]:2/api " in text

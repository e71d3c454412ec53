"""Which format a client can read: contract 30 §1.3."""

import pytest
from hypothesis import given, strategies as st

from agent.sessions.levels import Level, begins_at_home, level_of

VERSION = "X-Daytona-SDK-Version"


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("0.25.6", Level.COMBINED),
        ("v0.25.6", Level.COMBINED),
        ("0.25.6a1", Level.COMBINED),
        ("0.26.99", Level.COMBINED),
        ("0.27.0-0", Level.LABELLED),
        ("0.27.0-alpha.3", Level.LABELLED),
        ("0.27.0a1", Level.LABELLED),
        ("0.27.0", Level.LABELLED),
        ("0.150.0", Level.LABELLED),
        ("0.166.99", Level.LABELLED),
        ("v0.166.0", Level.LABELLED),
        ("0.167.0-0", Level.SPLIT),
        ("0.167.0rc2", Level.SPLIT),
        ("0.167.0", Level.SPLIT),
        ("0.226.1", Level.SPLIT),
        ("1.0.0", Level.SPLIT),
        ("0.0.0-dev", Level.SPLIT),
        ("0.25.6-dev", Level.SPLIT),
        ("unknown", Level.SPLIT),
        ("0.25", Level.SPLIT),
        ("é", Level.SPLIT),
        ("99999999999999999999.0.0", Level.SPLIT),
    ],
)
def test_the_version_decides(version: str, level: Level) -> None:
    assert level_of({VERSION: version}) is level
    assert level_of({VERSION: version}, websocket=True) is level


@pytest.mark.parametrize(
    ("headers", "level"),
    [
        ({}, Level.COMBINED),
        ({VERSION: ""}, Level.COMBINED),
        ({"X-Daytona-Split-Output": "true"}, Level.LABELLED),
        ({"X-Daytona-Split-Output": "false"}, Level.COMBINED),
        ({"X-Daytona-Split-Output": "true", VERSION: "0.25.6"}, Level.COMBINED),
    ],
)
def test_without_a_version_the_split_header_decides(
    headers: dict[str, str], level: Level
) -> None:
    assert level_of(headers) is level


def test_a_browser_says_its_version_in_a_subprotocol() -> None:
    offered = {"Sec-WebSocket-Protocol": f"other, {VERSION}~0.150.0"}

    assert level_of(offered, websocket=True) is Level.LABELLED
    assert level_of({**offered, VERSION: "0.226.1"}) is Level.SPLIT


def test_okhttp_without_a_version_is_the_java_client_on_sockets_only() -> None:
    headers = {"User-Agent": "okhttp/4.12.0"}

    assert level_of(headers, websocket=True) is Level.SPLIT
    assert level_of(headers) is Level.COMBINED
    assert level_of({**headers, VERSION: "0.25.6"}, websocket=True) is Level.COMBINED


@given(st.tuples(*[st.integers(0, 300)] * 3), st.sampled_from(["", "-0", "a1", "-rc1"]))
def test_levels_follow_the_order_of_versions(
    numbers: tuple[int, ...], suffix: str
) -> None:
    level = level_of({VERSION: ".".join(map(str, numbers)) + suffix})

    wanted = (numbers >= (0, 27, 0)) + (numbers >= (0, 167, 0))
    assert level is Level(wanted)


@pytest.mark.parametrize(
    ("version", "at_home"),
    [
        ("0.25.6", True),
        ("0.102.9", True),
        ("0.103.0-0", False),
        ("0.103.0", False),
        ("0.226.1", False),
        ("0.0.0-dev", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_only_old_clients_begin_at_home(version: str, at_home: bool) -> None:
    assert begins_at_home({VERSION: version}) is at_home

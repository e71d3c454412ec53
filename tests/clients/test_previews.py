"""Previews as the official clients get them, opened as any program would."""

import json
import socket

import pytest

from agent.dev.previews.addresses import knows_localhost_names, name_of
from tests.clients.conftest import Told

CLIENTS = ["previews sync", "previews async", "previews first", "previews javascript"]
SIGNING = [each for each in CLIENTS if each != "previews first"]

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]


@pytest.mark.parametrize("told", CLIENTS, indirect=True)
def test_link_opens_by_its_token_and_by_the_key_and_by_nothing_less(told: Told) -> None:
    link = told["link"]
    status, seen = link["by token"]

    assert (status, seen["path"]) == (200, "/a%2Fb?c=%20")
    assert link["by key"][0] == 200
    assert link["by nothing"][0] == 401
    named = knows_localhost_names()
    label = f"{link['port']}-{name_of(socket.gethostname())}"
    assert (f"//{label}.localhost:" if named else f"/preview/{label}") in link["url"]


@pytest.mark.parametrize("told", CLIENTS, indirect=True)
def test_app_sees_no_credential_of_the_visitors(told: Told) -> None:
    link = told["link"]

    assert link["token is the key"] is False
    for way in ("by token", "by key"):
        headers = link[way][1]["headers"]
        assert not [name for name in headers if name.startswith("x-daytona")]
        assert "authorization" not in headers
        assert told.given["key"] not in json.dumps(link[way])
        assert headers["host"] == f"localhost:{link['port']}"


@pytest.mark.parametrize("told", CLIENTS, indirect=True)
def test_link_of_the_toolbox_is_the_toolbox_and_no_other_token_opens_it(
    told: Told,
) -> None:
    link = told["link"]

    assert link["toolbox"] == [200, {"dir": told.given["work"]}]
    assert link["toolbox by another's"][0] == 401


@pytest.mark.parametrize("told", SIGNING, indirect=True)
def test_signed_address_opens_by_itself_until_revoked_or_expired(told: Told) -> None:
    signed = told["signed"]

    assert signed["port"] == told["link"]["port"]
    assert (signed["opened"], signed["revoked"]) == (200, 401)
    assert (signed["at first"], signed["expired"]) == (200, 401)
    assert signed["toolbox"]["status"] == 400
    assert "toolbox" in signed["toolbox"]["message"]


@pytest.mark.parametrize("told", ["previews sync", "previews async"], indirect=True)
def test_public_previews_open_without_anything(told: Told) -> None:
    public = told["public"]

    assert (public["public"], public["private"]) == (200, 401)

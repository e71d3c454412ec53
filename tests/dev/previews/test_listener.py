"""Who is let in on the preview port, and what the app sees of what they showed."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import ClientResponse
from yarl import URL

from agent.dev.routes import SANDBOXES
from tests.dev.conftest import AUTH, TOKEN, Dev
from tests.dev.test_routes import call

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
COOKIE = "daytona-sandbox-auth-sb-1"


async def ask(
    dev: Dev,
    label: str,
    target: str = "/found",
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
) -> tuple[ClientResponse, bytes]:
    """Ask for a path of a preview by its host name; return the answer and its body."""
    async with dev.client.request(
        method,
        URL(dev.previews + target, encoded=True),
        headers={"Host": dev.host(label), **(headers or {})},
        allow_redirects=False,
    ) as answer:
        return answer, await answer.read()


async def token_of(dev: Dev, port: int) -> str:
    """Return a port's token, as an SDK gets it."""
    path = f"/sandbox/sb-1/ports/{port}/preview-url"
    return str((await call(dev, "GET", path))["token"])


async def sign(dev: Dev, port: int, lifetime_s: int = 60) -> Any:
    """Return a signed address, as an SDK gets it."""
    query = f"signed-preview-url?expiresInSeconds={lifetime_s}"
    return await call(dev, "GET", f"/sandbox/sb-1/ports/{port}/{query}")


async def test_token_in_a_header_opens_its_port_and_the_app_never_sees_it(
    dev: Dev,
) -> None:
    token = await token_of(dev, 3000)

    for shown in (
        {"X-Daytona-Preview-Token": token},
        {"Authorization": f"Bearer {token}"},
        {"X-Daytona-Preview-Token": TOKEN},
        AUTH,
    ):
        answer, body = await ask(dev, "3000-sb-1", "/found?a=%2F", shown)

        assert answer.status == 200
        seen = json.loads(body)
        assert (seen["port"], seen["target"]) == ("3000", "/found?a=%2F")
        assert seen["headers"]["x-forwarded-host"] == dev.host("3000-sb-1")
        assert token.encode() not in body
        assert TOKEN.encode() not in body


async def test_credentials_of_the_apps_own_are_left_alone(dev: Dev) -> None:
    shown = {
        "X-Daytona-Preview-Token": await token_of(dev, 3000),
        "Authorization": "Bearer of-the-app",
        "X-Daytona-Authorization": "Bearer of-the-runner",
        "X-Daytona-Disable-CORS": "true",
        "X-Daytona-Skip-Last-Activity-Update": "true",
    }

    _, body = await ask(dev, "3000-sb-1", headers=shown)

    headers = json.loads(body)["headers"]
    assert headers["authorization"] == "Bearer of-the-app"
    assert not [name for name in headers if name.startswith("x-daytona")]


async def test_nothing_and_wrong_things_open_nothing(dev: Dev) -> None:
    token = await token_of(dev, 3000)
    signed = (await sign(dev, 3000))["token"]

    for label, target, shown in (
        ("3000-sb-1", "/found", {}),
        ("3001-sb-1", "/found", {"X-Daytona-Preview-Token": token}),
        ("3001-sb-1", f"/found?DAYTONA_SANDBOX_AUTH_KEY={token}", {}),
        ("3000-sb-1", "/found?DAYTONA_SANDBOX_AUTH_KEY=wrong", {}),
        ("3000-sb-1", f"/found?DAYTONA_SANDBOX_AUTH_KEY={TOKEN}", {}),
        ("3000-sb-1", "/found", {"Authorization": f"Basic {token}"}),
        ("3000-sb-1", "/found", {"Cookie": f"{COOKIE}={token}"}),
        ("3000-sb-1", "/found", {"Cookie": f"{COOKIE}={TOKEN}"}),
        ("3000-sb-1", "/found", {"X-Daytona-Preview-Token": signed}),
        (f"3001-{signed}", "/found", {}),
        ("3000-other", "/found", {"X-Daytona-Preview-Token": token}),
        ("22222-sb-1", "/found", {"X-Daytona-Preview-Token": token}),
    ):
        answer, body = await ask(dev, label, target, shown)

        assert answer.status == 401, (label, target, shown)
        assert json.loads(body)["code"] == "UNAUTHORIZED"


async def test_browser_is_shown_where_to_type_a_token(dev: Dev) -> None:
    answer, body = await ask(dev, "3000-sb-1", headers=NAVIGATION)

    assert answer.status == 401
    assert answer.content_type == "text/html"
    assert b'name="DAYTONA_SANDBOX_AUTH_KEY"' in body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_key_in_the_query_becomes_a_cookie_in_a_browser(dev: Dev) -> None:
    token = await token_of(dev, 3000)
    key = f"DAYTONA_SANDBOX_AUTH_KEY={token}"

    answer, _ = await ask(dev, "3000-sb-1", f"/found?a=%2F&{key}&b", NAVIGATION)

    assert answer.status == 303
    assert answer.headers["Location"] == f"http://{dev.host('3000-sb-1')}/found?a=%2F&b"
    cookie = answer.cookies[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["max-age"] == "3600"
    assert not cookie["domain"]
    assert token not in cookie.value
    own = {"Cookie": f"{COOKIE}={cookie.value}"}
    answer, _ = await ask(dev, "3000-sb-1", headers=own)
    assert answer.status == 200
    for label in ("3001-sb-1", "22222-sb-1"):
        answer, _ = await ask(dev, label, headers=own)
        assert answer.status == 401
    dev.clock.turn(hours=1)
    answer, _ = await ask(dev, "3000-sb-1", headers=own)
    assert answer.status == 401


async def test_redirect_without_the_key_stays_on_the_previews_host(dev: Dev) -> None:
    key = f"DAYTONA_SANDBOX_AUTH_KEY={await token_of(dev, 3000)}"

    for path in ("//elsewhere.example/", "/%5C%5Celsewhere.example"):
        answer, _ = await ask(dev, "3000-sb-1", f"{path}?{key}", NAVIGATION)
        assert answer.headers["Location"] == f"http://{dev.host('3000-sb-1')}{path}"


async def test_key_in_a_programs_query_is_taken_off(dev: Dev) -> None:
    key = f"DAYTONA_SANDBOX_AUTH_KEY={await token_of(dev, 3000)}"

    answer, body = await ask(dev, "3000-sb-1", f"/found?{key}&x=1&%41=%2F")

    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers
    assert json.loads(body)["target"] == "/found?x=1&%41=%2F"


async def test_signed_address_opens_by_itself_until_it_expires(dev: Dev) -> None:
    signed = await sign(dev, 3000, 60)
    label = f"3000-{signed['token']}"
    assert signed == {
        "sandboxId": "sb-1",
        "port": 3000,
        "token": signed["token"],
        "url": f"http://{dev.host(label)}",
    }

    answer, body = await ask(dev, label)

    assert answer.status == 200
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert json.loads(body)["port"] == "3000"
    dev.clock.turn(seconds=60)
    answer, _ = await ask(dev, label)
    assert answer.status == 401


async def test_signed_address_is_revoked_at_once(dev: Dev) -> None:
    signed = await sign(dev, 3000)
    path = f"/sandbox/sb-1/ports/3000/signed-preview-url/{signed['token']}/expire"

    assert await call(dev, "POST", path) is None

    answer, _ = await ask(dev, f"3000-{signed['token']}")
    assert answer.status == 401
    await call(dev, "POST", path, status=404)


async def test_deleting_the_sandbox_revokes_signed_addresses(dev: Dev) -> None:
    signed = await sign(dev, 3000)

    await call(dev, "DELETE", "/sandbox/sb-1")

    answer, _ = await ask(dev, f"3000-{signed['token']}")
    assert answer.status == 401
    await call(dev, "GET", "/sandbox/sb-1/ports/3000/signed-preview-url", status=409)


@pytest.mark.parametrize("seconds", ["0", "-1", "86401", "x"])
async def test_lifetime_of_a_signed_address_is_bounded(dev: Dev, seconds: str) -> None:
    path = "/sandbox/sb-1/ports/3000/signed-preview-url"

    await call(dev, "GET", f"{path}?expiresInSeconds={seconds}", status=400)


async def test_no_address_opens_the_toolbox_by_itself(dev: Dev) -> None:
    for port in (2280, dev.settings.port):
        path = f"/sandbox/sb-1/ports/{port}/signed-preview-url"
        told = await call(dev, "GET", path, status=400)
        assert "toolbox" in told["message"]
        key = f"DAYTONA_SANDBOX_AUTH_KEY={TOKEN}"
        for target in ("/files?path=.", f"/files?{key}", f"/proxy/3000/found?{key}"):
            answer, _ = await ask(dev, f"{port}-sb-1", target, NAVIGATION)
            assert answer.status == 401
            assert "Set-Cookie" not in answer.headers


async def test_toolbox_is_reached_with_its_token_in_a_header(dev: Dev) -> None:
    link = await call(dev, "GET", "/sandbox/sb-1/ports/2280/preview-url")
    assert link["url"] == dev.agent
    shown = {"X-Daytona-Preview-Token": link["token"], "Origin": "http://any.example"}
    target = "/files/upload?path=a%2Fb"

    answer, body = await ask(dev, "2280-sb-1", target, shown, "POST")
    assert (answer.status, body) == (200, b"a/b: ")
    for prefix in ("/toolbox/sb-1", "/preview/2280-sb-1"):
        async with dev.client.post(
            dev.previews + prefix + target, data=b"x", headers=shown
        ) as plain:
            assert (plain.status, await plain.text()) == (200, "a/b: x")
    answer, body = await ask(dev, "2280-sb-1", target, method="POST")
    assert answer.status == 401
    assert json.loads(body)["source"] == "DAYTONA_DAEMON"


async def test_own_ports_of_the_dev_command_are_no_previews(dev: Dev) -> None:
    for port in (dev.settings.dev_port, dev.settings.preview_port):
        answer, _ = await ask(dev, f"{port}-sb-1", headers=AUTH)
        assert answer.status == 403


async def test_hosts_that_others_can_make_lead_here_are_refused(dev: Dev) -> None:
    for host in (
        "rebound.example",
        f"rebound.example:{dev.settings.preview_port}",
        f"3000-sb-1.localhost.rebound.example:{dev.settings.preview_port}",
        f"3000-sb-1.localhost:{dev.settings.port}",
        "",
    ):
        answer, _ = await ask(dev, "", headers={"Host": host, **AUTH})
        assert answer.status in {400, 421}, host


async def test_address_without_a_name_serves_programs_and_sends_browsers_on(
    dev: Dev,
) -> None:
    url = f"{dev.previews}/preview/3000-sb-1/found?a=1"
    shown = {"X-Daytona-Preview-Token": await token_of(dev, 3000)}

    async with dev.client.get(url, headers=shown) as answer:
        assert answer.status == 200
        assert json.loads(await answer.read())["target"] == "/found?a=1"
        assert answer.headers["Location"] == "/preview/3000-sb-1/elsewhere"
    async with dev.client.get(url, headers=NAVIGATION, allow_redirects=False) as answer:
        assert answer.status == 307
        named = f"http://{dev.host('3000-sb-1')}/found?a=1"
        assert answer.headers["Location"] == named


async def test_cookie_opens_nothing_where_previews_share_their_host(dev: Dev) -> None:
    key = f"DAYTONA_SANDBOX_AUTH_KEY={await token_of(dev, 3000)}"
    answer, _ = await ask(dev, "3000-sb-1", f"/found?{key}", NAVIGATION)
    cookie = f"{COOKIE}={answer.cookies[COOKIE].value}"

    async with dev.client.get(
        f"{dev.previews}/preview/3000-sb-1/found", headers={"Cookie": cookie}
    ) as plain:
        assert plain.status == 401


async def test_public_previews_need_no_token_but_guarded_ports_do(dev: Dev) -> None:
    await call(dev, "POST", "/sandbox/sb-1/public/true")
    assert (await call(dev, "GET", "/sandbox/sb-1"))["public"] is True

    for label, status in (
        ("3000-sb-1", 200),
        ("22222-sb-1", 401),
        ("33333-sb-1", 401),
        ("2280-sb-1", 401),
        (f"{dev.settings.port}-sb-1", 401),
        ("3000-other", 401),
    ):
        answer, _ = await ask(dev, label)
        assert answer.status == status, label
    await call(dev, "POST", "/sandbox/sb-1/public/false")
    answer, _ = await ask(dev, "3000-sb-1")
    assert answer.status == 401
    await call(dev, "POST", "/sandbox/sb-1/public/maybe", status=400)
    assert (await call(dev, "POST", "/sandbox", {"public": True}))["public"] is True
    assert (await call(dev, "POST", "/sandbox", {}))["public"] is False


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none", **NAVIGATION}, 200),
        ({"Sec-Fetch-Site": "cross-site", **NAVIGATION}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        (
            {**NAVIGATION, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
            403,
        ),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://elsewhere.example", "Upgrade": "websocket"}, 403),
    ],
)
async def test_what_any_browser_would_send_must_come_from_the_preview_itself(
    dev: Dev, shown: dict[str, str], status: int
) -> None:
    await call(dev, "POST", "/sandbox/sb-1/public/true")

    answer, _ = await ask(dev, "3000-sb-1", headers=shown)

    assert answer.status == status
    own = {**shown, "Origin": f"http://{dev.host('3000-sb-1')}"}
    own.pop("Sec-Fetch-Site", None)
    answer, _ = await ask(dev, "3000-sb-1", headers=own)
    assert answer.status == 200


async def test_other_origins_read_with_a_token_and_only_then(dev: Dev) -> None:
    origin = "https://app.example"
    shown = {"X-Daytona-Preview-Token": await token_of(dev, 3000), "Origin": origin}

    answer, _ = await ask(dev, "3000-sb-1", headers=shown)
    assert answer.headers.getall("Access-Control-Allow-Origin") == [origin]
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in answer.headers["Vary"]
    answer, _ = await ask(dev, "3000-sb-1", headers={"Origin": origin})
    assert answer.status == 401
    assert "Access-Control-Allow-Origin" not in answer.headers
    shown["X-Daytona-Disable-CORS"] = "true"
    answer, _ = await ask(dev, "3000-sb-1", headers=shown)
    assert answer.headers.getall("Access-Control-Allow-Origin") == ["app"]
    del shown["Origin"], shown["X-Daytona-Disable-CORS"]
    answer, _ = await ask(dev, "3000-sb-1", headers=shown)
    assert answer.headers.getall("Access-Control-Allow-Origin") == ["app"]


async def test_preflight_is_answered_before_there_is_anything_to_show(
    dev: Dev,
) -> None:
    wanted = "x-daytona-preview-token, content-type"
    asking = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": wanted,
    }

    answer, _ = await ask(dev, "3000-sb-1", headers=asking, method="OPTIONS")

    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.headers["Access-Control-Allow-Methods"] == "PUT"
    assert answer.headers["Access-Control-Allow-Headers"] == wanted
    answer, _ = await ask(dev, "2280-sb-1", headers=asking, method="OPTIONS")
    assert answer.status == 401
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_nothing_listening_is_told_to_programs_and_shown_to_browsers(
    dev: Dev,
) -> None:
    answer, body = await ask(dev, "3000-sb-1", "/none", AUTH)
    assert answer.status == 502
    assert json.loads(body)["message"] == "no service is listening on port 3000"

    answer, body = await ask(dev, "3000-sb-1", "/none", {**AUTH, **NAVIGATION})
    assert (answer.status, answer.content_type) == (502, "text/html")
    assert b"no service is listening on port 3000" in body
    assert b'http-equiv="refresh"' in body


async def test_visits_count_as_activity_unless_they_say_not(dev: Dev) -> None:
    def last() -> object:
        return dev.app[SANDBOXES].get("sb-1").last_activity_at

    before = last()
    skip = {"X-Daytona-Skip-Last-Activity-Update": "true"}
    await ask(dev, "3000-sb-1", headers={**AUTH, **skip})
    await ask(dev, "3000-sb-1")
    assert last() == before

    await ask(dev, "3000-sb-1", headers=AUTH)
    assert last() != before


async def test_previews_are_on_their_own_port_only(dev: Dev) -> None:
    for base in (dev.agent, dev.plane.removesuffix("/api")):
        async with dev.client.get(f"{base}/preview/3000-sb-1/found") as answer:
            assert answer.status in {401, 404}
        host = {"Host": dev.host("3000-sb-1"), "Origin": "http://a.example"}
        async with dev.client.get(f"{base}/found", headers=host) as answer:
            assert answer.status == 421


@pytest.mark.parametrize(
    "line",
    [
        b"OPTIONS * HTTP/1.1",
        b"CONNECT a.example:443 HTTP/1.1",
        b"GET http://a.example/found HTTP/1.1",
        b"GET /found#a HTTP/1.1",
        b"GET /found?a#b HTTP/1.1",
        b"GET //found HTTP/1.1",
        b"GET /\xff\xfe HTTP/1.1",
    ],
)
async def test_odd_targets_are_answered_and_break_nothing(
    dev: Dev, line: bytes
) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", dev.settings.preview_port
    )
    headers = [f"Host: {dev.host('3000-sb-1')}".encode(), b"Connection: close"]
    headers.append(f"Authorization: Bearer {TOKEN}".encode())

    writer.write(b"\r\n".join((line, *headers, b"", b"")))
    status = int((await reader.readline()).split()[1])
    await reader.read()
    writer.close()
    await writer.wait_closed()

    assert status in {200, 400, 404, 405, 421, 502}

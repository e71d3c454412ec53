"""Who may call: every rule, on a real connection, for plain requests and upgrades."""

import time

import pytest
from aiohttp import web

from agent.settings import Settings
from agent.web.guard import Guard, sign
from agent.web.routes import Routes
from agent.web.websockets import WEBSOCKETS

from .conftest import TOKEN, Serve, Served

routes = Routes("test")


@routes.get("/open", public=True)
async def open_route() -> None:
    """Answer anybody."""


@routes.get("/closed")
async def closed() -> None:
    """Answer callers with a token."""


@routes.post("/closed")
async def closed_post() -> None:
    """Answer callers with a token."""


@routes.get("/files/download", signed=True)
async def download(path: str) -> None:
    """Answer callers with a token or a signed URL."""


@routes.get("/socket", websocket="only")
async def socket_route(request: web.Request) -> web.StreamResponse:
    """Echo nothing; wait for the close."""
    opened = await request.app[WEBSOCKETS].accept(request)
    async for _message in opened:
        pass
    request.app[WEBSOCKETS].forget(opened)
    return opened


async def status(served: Served, path: str, **headers: str) -> int:
    """Return the status of a raw request, so that no client adds headers."""
    lines = [f"GET {path} HTTP/1.1"]
    headers = {"Host": f"127.0.0.1:{served.port}", "Connection": "close", **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    answer = await served.raw_head(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    return int(answer.split(b" ", 2)[1])


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("", 401),
        ("Bearer wrong", 401),
        ("Bearer t\xf6ken", 401),
        ("Basic " + TOKEN, 401),
        ("Bearer " + TOKEN, 200),
        ("bearer " + TOKEN, 200),
    ],
)
async def test_only_the_right_token_opens_a_route(
    serve: Serve, authorization: str, expected: int
) -> None:
    served = await serve([routes])

    got = await status(served, "/closed", Authorization=authorization)

    assert got == expected


async def test_the_preview_header_carries_the_token_too(serve: Serve) -> None:
    served = await serve([routes])

    assert await status(served, "/closed", X_Daytona_Preview_Token=TOKEN) == 200
    assert await status(served, "/closed", X_Daytona_Preview_Token="no") == 401


async def test_a_stranger_learns_nothing_of_which_routes_exist(serve: Serve) -> None:
    served = await serve([routes])

    assert await status(served, "/nothing") == 401
    assert await status(served, "/nothing", Authorization=f"Bearer {TOKEN}") == 404


@pytest.mark.parametrize(
    "host",
    ["evil.test", "127.0.0.1.evil.test", "localhost:1", "127.0.0.1", "", "10.9.8.7:80"],
)
async def test_a_foreign_host_is_refused_before_anything_else(
    serve: Serve, host: str
) -> None:
    served = await serve([routes])

    assert await status(served, "/open", Host=host) == 421
    assert await status(served, "/closed", Host=host) == 421


async def test_a_request_without_host_is_refused(serve: Serve) -> None:
    served = await serve([routes])

    answer = await served.raw(b"GET /open HTTP/1.0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.0 421")


async def test_two_host_headers_are_refused(serve: Serve) -> None:
    served = await serve([routes])
    own = b"127.0.0.1:%d" % served.port

    answer = await served.raw(
        b"GET /open HTTP/1.1\r\nHost: " + own + b"\r\nHost: evil.test\r\n\r\n"
    )

    assert answer.split(b" ")[1] in {b"400", b"421"}


async def test_every_loopback_name_with_our_port_is_ours(serve: Serve) -> None:
    served = await serve([routes])

    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        assert await status(served, "/open", Host=f"{name}:{served.port}") == 200


async def test_configured_hosts_are_ours(serve: Serve) -> None:
    served = await serve([routes], allowed_hosts=("box.example:8080",))

    assert await status(served, "/open", Host="box.example:8080") == 200
    assert await status(served, "/open", Host="box.example") == 421


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.test",
        "http://localhost.evil.com",
        "http://localhost:1",
        "https://",
        "javascript:alert(1)",
    ],
)
async def test_a_foreign_origin_is_refused(serve: Serve, origin: str) -> None:
    served = await serve([routes])

    assert await status(served, "/open", Origin=origin) == 403
    assert await status(served, "/socket", Origin=origin, **UPGRADE) == 403


async def test_our_own_origin_is_let_through(serve: Serve) -> None:
    served = await serve([routes])

    origin = f"http://localhost:{served.port}"

    assert await status(served, "/open", Origin=origin) == 200
    assert await status(served, "/open", Origin=origin + "/path") == 403


async def test_a_cross_site_request_is_refused(serve: Serve) -> None:
    served = await serve([routes])

    assert await status(served, "/open", Sec_Fetch_Site="cross-site") == 403
    assert await status(served, "/open", Sec_Fetch_Site="same-origin") == 200
    assert await status(served, "/open", Sec_Fetch_Site="none") == 200


async def test_a_header_token_outweighs_host_and_origin(serve: Serve) -> None:
    served = await serve([routes])

    got = await status(
        served,
        "/closed",
        Host="proxy.example",
        Origin="https://app.example",
        Sec_Fetch_Site="cross-site",
        Authorization=f"Bearer {TOKEN}",
    )

    assert got == 200


async def test_a_query_token_counts_on_upgrades_only(serve: Serve) -> None:
    served = await serve([routes])
    query = f"?DAYTONA_SANDBOX_AUTH_KEY={TOKEN}"

    assert await status(served, "/closed" + query) == 401
    assert await status(served, "/socket?DAYTONA_SANDBOX_AUTH_KEY=no", **UPGRADE) == 401
    async with served.client.ws_connect(served.url + "/socket" + query) as opened:
        assert not opened.closed


async def test_a_query_token_from_a_listed_origin_is_accepted(serve: Serve) -> None:
    served = await serve([routes], allowed_origins=("https://app.example",))
    url = f"{served.url}/socket?DAYTONA_SANDBOX_AUTH_KEY={TOKEN}"

    async with served.client.ws_connect(url, origin="https://app.example") as opened:
        assert not opened.closed
    refused = await status(served, "/socket", Origin="https://app.example", **UPGRADE)
    assert refused == 403


async def test_without_authentication_pages_are_still_kept_out(serve: Serve) -> None:
    served = await serve([routes], token="", no_auth=True)

    assert await status(served, "/closed") == 200
    assert await status(served, "/closed", Host="evil.test") == 421
    assert await status(served, "/closed", Origin="http://evil.test") == 403


async def test_a_trusted_network_checks_nothing(serve: Serve) -> None:
    served = await serve([routes], token="", trust_network=True)

    got = await status(served, "/closed", Host="x.test", Origin="http://y.test")

    assert got == 200


async def test_an_empty_token_never_matches(serve: Serve) -> None:
    served = await serve([routes], token="")

    assert await status(served, "/closed", Authorization="Bearer ") == 401
    assert await status(served, "/closed", X_Daytona_Preview_Token="") == 401


async def test_a_signed_url_opens_exactly_its_file_until_it_expires(
    serve: Serve,
) -> None:
    now = time.time()
    settings = Settings(token=TOKEN, signing_key="key")
    served = await serve([routes], guard=Guard(settings, clock=lambda: now))

    def url(path: str, expires: int, *, signed_path: str | None = None) -> str:
        signature = sign(b"key", "GET", signed_path or path, str(expires))
        return f"/files/download?path={path}&expires={expires}&signature={signature}"

    assert await status(served, url("/a", int(now) + 60)) == 200
    assert await status(served, url("/a", 0)) == 200
    assert await status(served, url("/a", int(now) - 1)) == 401
    assert await status(served, url("/b", 0, signed_path="/a")) == 401
    assert (
        await status(served, url("/a", 0).replace("signature=", "signature=x")) == 401
    )
    assert (
        await status(served, url("/a", 0).replace("/files/download", "/closed")) == 401
    )


async def test_without_a_key_no_signature_is_valid(serve: Serve) -> None:
    served = await serve([routes])
    signature = sign(b"", "GET", "/a", "0")

    got = await status(
        served, f"/files/download?path=/a&expires=0&signature={signature}"
    )

    assert got == 401


def test_the_signature_is_the_one_that_the_sdk_computes() -> None:
    # Made with the formula of contract 10 §5 by hand.
    assert sign(b"k", "GET", "/a b", "0").startswith("v1_")
    assert "=" not in sign(b"k", "GET", "/a b", "0")
    assert sign(b"k", "GET", "/a", "0") != sign(b"k", "POST", "/a", "0")


async def test_a_refused_upgrade_opens_nothing(serve: Serve) -> None:
    served = await serve([routes])

    assert await status(served, "/socket", **UPGRADE) == 401
    assert served.dispatcher.in_flight == 0

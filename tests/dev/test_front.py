"""Which listener answers what, and who may call."""

import asyncio

import pytest

from agent.dev.routes import routes
from tests.dev.conftest import AUTH, Dev

PLANE_PATHS = sorted(
    {
        route.path.replace("{", "").replace("}", "")
        for route in routes
        if route.method == "GET" and not route.public
    }
)


@pytest.mark.parametrize("path", PLANE_PATHS)
async def test_control_plane_is_not_on_the_agents_port(dev: Dev, path: str) -> None:
    for prefix in ("", "/api", "/api/toolbox/sb-1/toolbox"):
        async with dev.client.get(dev.agent + prefix + path, headers=AUTH) as answer:
            assert answer.status == 404
            assert (await answer.json())["source"] == "DAYTONA_DAEMON"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_every_control_plane_route_asks_for_the_token(
    dev: Dev, method: str
) -> None:
    mine = [each for each in routes if each.method == method and not each.public]
    assert mine

    for route in mine:
        path = dev.plane + route.path.replace("{", "").replace("}", "")
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with dev.client.request(method, path, headers=headers) as answer:
                assert answer.status == 401, route.path
                assert await answer.json() == {
                    "statusCode": 401,
                    "message": "a valid token is required",
                    "error": "Unauthorized",
                }


@pytest.mark.parametrize("prefix", ["", "/api/toolbox/sb-1/toolbox", "/toolbox/sb-1"])
async def test_toolbox_is_reached_through_the_dev_port(dev: Dev, prefix: str) -> None:
    base = dev.plane.removesuffix("/api")

    async with dev.client.get(f"{base}{prefix}/version") as answer:
        assert (answer.status, await answer.text()) == (200, "toolbox")


async def test_path_and_query_keep_their_encoding_through_the_dev_port(
    dev: Dev,
) -> None:
    async with dev.client.post(
        f"{dev.plane}/toolbox/sb%2F1/toolbox/files/upload?path=a%2Fb%20%C3%BC",
        data=b"content",
        headers=AUTH,
    ) as answer:
        assert (answer.status, await answer.text()) == (200, "a/b ü: content")


async def test_failures_of_the_toolbox_keep_its_envelope_on_the_dev_port(
    dev: Dev,
) -> None:
    async with dev.client.get(
        f"{dev.plane}/toolbox/sb-1/toolbox/none", headers=AUTH
    ) as answer:
        told = await answer.json()

    assert (answer.status, told["code"], told["path"]) == (404, "NOT_FOUND", "/none")


async def test_expect_continue_is_decided_before_the_body_on_both_sides(
    dev: Dev,
) -> None:
    asking = {"Expect": "100-continue"}
    upload = f"{dev.plane}/toolbox/sb-1/toolbox/files/upload?path=p"

    async with dev.client.post(upload, data=b"x", headers=asking) as answer:
        assert answer.status == 401
    async with dev.client.post(upload, data=b"x", headers={**asking, **AUTH}) as answer:
        assert (answer.status, await answer.text()) == (200, "p: x")
    async with dev.client.post(
        f"{dev.plane}/sandbox", data=b"{}", headers=asking
    ) as answer:
        assert answer.status == 401
        assert set(await answer.json()) == {"statusCode", "message", "error"}


async def test_foreign_host_and_origin_are_refused_by_the_control_plane(
    dev: Dev,
) -> None:
    for headers, status in (
        ({"Host": "rebound.example"}, 421),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ):
        async with dev.client.get(f"{dev.plane}/sandbox", headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize("path", ["", "/", "/none", "//sandbox", "/sandboxes"])
async def test_unknown_path_of_the_control_plane_is_404_in_its_own_shape(
    dev: Dev, path: str
) -> None:
    async with dev.client.get(dev.plane + path, headers=AUTH) as answer:
        told = await answer.json()

    assert (answer.status, told["statusCode"], told["error"]) == (404, 404, "Not Found")


async def test_paths_that_only_begin_like_the_control_plane_are_the_toolboxs(
    dev: Dev,
) -> None:
    base = dev.plane.removesuffix("/api")

    async with dev.client.get(f"{base}/apix/version") as answer:
        assert (answer.status, await answer.text()) == (200, "toolbox")


async def test_wrong_method_is_405_with_the_right_ones(dev: Dev) -> None:
    async with dev.client.patch(f"{dev.plane}/sandbox/sb-1", headers=AUTH) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "DELETE, GET, HEAD"
        assert (await answer.json())["error"] == "Method Not Allowed"


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (b"OPTIONS * HTTP/1.1", {400, 401, 404, 405}),
        (b"CONNECT elsewhere.example:443 HTTP/1.1", {400, 404, 405, 421}),
        (b"GET http://elsewhere.example/api/sandbox HTTP/1.1", {400, 421}),
    ],
)
async def test_targets_that_are_no_path_are_refused_and_break_nothing(
    dev: Dev, line: bytes, statuses: set[int]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", dev.settings.dev_port)
    host = f"Host: 127.0.0.1:{dev.settings.dev_port}".encode()
    if b"elsewhere" in line:
        host = b"Host: elsewhere.example"

    writer.write(b"\r\n".join((line, host, b"Connection: close", b"", b"")))
    status = (await reader.readline()).split()[1]
    await reader.read()
    writer.close()
    await writer.wait_closed()

    assert int(status) in statuses


async def test_requests_of_both_sides_have_different_ids(dev: Dev) -> None:
    ids = []
    for path in ("/sandbox", "/toolbox/sb-1/version"):
        async with dev.client.get(dev.plane + path, headers=AUTH) as answer:
            ids.append(answer.headers["X-Request-Id"])

    assert ids == ["0-1", "1-1"]

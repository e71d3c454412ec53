"""The sandbox's events, as a Socket.IO client receives them."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from agent.dev.events import MAX_FOLLOWERS, MAX_WAITING, Events
from agent.dev.models import Labels
from tests.dev.conftest import AUTH, TOKEN, Dev

PATH = "/socket.io/?source=test&transport=websocket&EIO=4"


async def opened(dev: Dev) -> ClientWebSocketResponse:
    """Open a socket and read its opening packet."""
    socket = await dev.client.ws_connect(dev.plane + PATH)
    opening = await socket.receive_str()
    assert opening.startswith("0{")
    facts = json.loads(opening[1:])
    assert set(facts) == {
        *("sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"),
    }
    return socket


async def connected(dev: Dev) -> ClientWebSocketResponse:
    """Open a socket and show the token."""
    socket = await opened(dev)
    await socket.send_str(f'40{{"token":"{TOKEN}"}}')
    assert (await socket.receive_str()).startswith('40{"sid":')
    return socket


async def event(socket: ClientWebSocketResponse) -> Any:
    packet = await socket.receive_str()
    assert packet.startswith("42[")
    return json.loads(packet[2:])


async def order(dev: Dev, method: str, path: str, body: bytes | None = None) -> None:
    async with dev.client.request(
        method, dev.plane + path, data=body, headers=AUTH
    ) as answer:
        assert answer.status == 200


async def test_changes_of_state_are_told_in_their_order(dev: Dev) -> None:
    async with await connected(dev) as socket:
        await order(dev, "POST", "/sandbox/sb-1/stop")
        await order(dev, "DELETE", "/sandbox/sb-1")
        await order(dev, "POST", "/sandbox", b"{}")
        told = [await event(socket) for _ in range(3)]

    assert [name for name, _ in told] == [
        "sandbox.state.updated",
        "sandbox.state.updated",
        "sandbox.created",
    ]
    assert [(each["oldState"], each["newState"]) for _, each in told[:2]] == [
        ("started", "stopped"),
        ("stopped", "destroyed"),
    ]
    assert told[0][1]["sandbox"]["id"] == told[2][1]["id"] == "sb-1"


async def test_order_that_changes_no_state_is_no_event(dev: Dev) -> None:
    async with await connected(dev) as socket:
        await order(dev, "POST", "/sandbox/sb-1/start")
        await order(dev, "POST", "/sandbox/sb-1/autostop/1")
        await order(dev, "POST", "/sandbox/sb-1/stop")
        _, told = await event(socket)

    assert told["newState"] == "stopped"


@pytest.mark.parametrize(
    "packet", ['40{"token":"wrong"}', "40", "40{}", "40[", '40{"token":1}']
)
async def test_client_without_the_token_is_refused_and_hears_nothing(
    dev: Dev, packet: str
) -> None:
    async with await opened(dev) as socket:
        await socket.send_str(packet)

        assert await socket.receive_str() == (
            '44{"message":"a valid token is required"}'
        )
        assert (await socket.receive()).type is WSMsgType.CLOSE


@pytest.mark.parametrize("packet", ["", "2", '42["sandbox.created",{}]'])
async def test_client_that_does_not_ask_to_be_connected_is_sent_away(
    dev: Dev, packet: str
) -> None:
    async with await opened(dev) as socket:
        await socket.send_str(packet)

        assert (await socket.receive()).type is WSMsgType.CLOSE


@pytest.mark.parametrize("packet", ["1", "41"])
async def test_client_that_says_goodbye_is_let_go(dev: Dev, packet: str) -> None:
    async with await connected(dev) as socket:
        await socket.send_str(packet)

        assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_what_else_a_client_says_is_ignored(dev: Dev) -> None:
    async with await connected(dev) as socket:
        for packet in ("3", "", '42["x"]', "nonsense"):
            await socket.send_str(packet)
        await socket.send_bytes(b"\xff")
        await order(dev, "POST", "/sandbox/sb-1/stop")

        assert (await event(socket))[0] == "sandbox.state.updated"


async def test_places_are_bounded_and_given_back(dev: Dev) -> None:
    sockets = [await opened(dev) for _ in range(MAX_FOLLOWERS)]
    with pytest.raises(WSServerHandshakeError) as refused:
        await dev.client.ws_connect(dev.plane + PATH)
    assert refused.value.status == 429

    # Closing waits for the other side's close, after which the place is free.
    await asyncio.gather(*(each.close() for each in sockets))

    await (await opened(dev)).close()


async def test_plain_request_is_told_to_upgrade(dev: Dev) -> None:
    async with dev.client.get(dev.plane + "/socket.io/?transport=polling") as answer:
        assert answer.status == 400
        assert "upgrade" in (await answer.json())["message"]


async def test_foreign_page_opens_no_socket(dev: Dev) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await dev.client.ws_connect(
            dev.plane + PATH, headers={"Origin": "http://elsewhere.example"}
        )

    assert refused.value.status == 403


async def test_follower_that_is_too_far_behind_is_dropped_alone() -> None:
    events = Events()
    slow: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
    quick: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
    events._followers |= {slow, quick}

    for _ in range(MAX_WAITING + 1):
        events.publish("name", Labels(labels={}))
        await quick.get()

    assert slow.get_nowait() == "1"
    assert slow.empty()
    assert events._followers == {quick}

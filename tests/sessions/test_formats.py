"""One log in three formats: exec, snapshots, websockets and chunked bodies."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError

from tests.sessions.conftest import (
    ERR,
    FIRST,
    LABELLED,
    NEWEST,
    OUT,
    VERSION_HEADER,
    Desk,
    Place,
    asking,
    parts_of,
)
from tests.support.agent import Agent, StartAgent, running

BOTH = "printf out; sleep 0.03; printf err >&2; sleep 0.03; echo 'é漢🙂'"
COMBINED = "outerré漢🙂\n"
PARTS = OUT + b"out" + ERR + b"err" + OUT + "é漢🙂\n".encode()
TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"
JSON = "application/json; charset=utf-8"


@pytest.fixture
async def command(place: Place) -> str:
    """Return a command that has written to both outputs."""
    command = await place.start(BOTH)
    await place.follow(command)
    return command


@pytest.mark.parametrize("version", [FIRST, "v0.26.9", ""])
async def test_combined_clients_get_one_text_everywhere(
    place: Place, command: str, version: str
) -> None:
    ran = await place.run(BOTH, version=version)
    log = await place.logs(command, version=version)
    chunked = await place.logs(command, version=version, follow="true")
    followed = await place.follow(command, version=version)

    assert (ran["output"], ran["stdout"], ran["stderr"]) == (COMBINED, None, None)
    assert (log.headers["Content-Type"], log.body.decode()) == (TEXT, COMBINED)
    assert chunked.headers["Content-Type"] == BYTES
    assert chunked.body.decode() == COMBINED
    assert followed.body.decode() == COMBINED


@pytest.mark.parametrize("version", [LABELLED, "0.27.0-0", "0.166.9"])
async def test_labelled_clients_get_markers_everywhere(
    place: Place, command: str, version: str
) -> None:
    ran = await place.run(BOTH, version=version)
    log = await place.logs(command, version=version)
    chunked = await place.logs(command, version=version, follow="true")
    followed = await place.follow(command, version=version)

    assert ran["output"].encode() == PARTS
    assert (ran["stdout"], ran["stderr"]) == (None, None)
    assert (log.headers["Content-Type"], log.body) == (TEXT, PARTS)
    assert chunked.body == PARTS
    assert followed.parts == parts_of([PARTS])


@pytest.mark.parametrize("version", [NEWEST, "0.167.0", "0.0.0-dev", "unknown"])
async def test_current_clients_get_texts_apart_and_marked_messages(
    place: Place, command: str, version: str
) -> None:
    ran = await place.run(BOTH, version=version)
    log = await place.logs(command, version=version)
    followed = await place.follow(command, version=version)

    wanted = {"output": COMBINED, "stdout": "outé漢🙂\n", "stderr": "err"}
    assert {name: ran[name] for name in wanted} == wanted
    assert (log.headers["Content-Type"], log.json()) == (JSON, wanted)
    assert followed.parts == parts_of([PARTS])


async def test_the_split_header_asks_for_markers_where_no_version_is(
    place: Place, command: str
) -> None:
    told = await place.logs(
        command, version="", headers={"X-Daytona-Split-Output": "true"}
    )

    assert told.body == PARTS


async def test_the_java_client_gets_markers_on_its_sockets(
    place: Place, command: str
) -> None:
    okhttp = {"User-Agent": "okhttp/4.12.0"}
    followed = await place.follow(command, version="", headers=okhttp)

    assert followed.parts == parts_of([PARTS])


async def test_a_browser_tells_its_version_in_a_subprotocol_and_gets_it_back(
    place: Place, command: str
) -> None:
    token = f"{VERSION_HEADER}~{FIRST}"
    url = place.desk.url(place.at(command, "/logs"), follow="true")
    async with place.desk.client.ws_connect(url, protocols=(token,)) as socket:
        received = [message.data async for message in socket]

    assert socket.protocol == token
    assert b"".join(received).decode() == COMBINED


async def test_an_empty_log_is_empty_in_every_format(place: Place) -> None:
    command = await place.start(":")
    await place.follow(command)

    assert (await place.logs(command)).json() == {
        "output": "",
        "stdout": "",
        "stderr": "",
    }
    for version in (FIRST, LABELLED):
        assert (await place.logs(command, version=version)).body == b""
    chunked = await place.logs(command, version=FIRST, follow="true")
    assert chunked.body == b""
    assert (await place.follow(command)).messages == []


async def test_only_the_word_true_follows(place: Place) -> None:
    command = await place.start("printf so; read x; echo far")
    await place.until_printed(command, b"so")

    for follow in ("false", "1", "TRUE", ""):
        path = place.at(command, f"/logs?follow={follow}")
        snapshot = await place.desk.ask("GET", path)
        assert snapshot.json()["stdout"] == "so", follow
        replayed = await place.desk.follow(path)
        assert (replayed.parts, replayed.code) == ((b"so", b""), 1000), follow


async def test_the_texts_apart_are_exact_where_output_has_the_markers(
    place: Place,
) -> None:
    told = await place.run(r"printf 'a\001\001\001b\002\002\002c\000\n'")

    assert told["stdout"] == "a\1\1\1b\2\2\2c\0\n"
    assert told["output"] == told["stdout"]


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (r"printf 'a\n\nb\r\nc\rd'", b"a\n\nb\r\nc\rd"),
        (r"printf '\000\001\377'", b"\0\1\xff"),
        (r"printf 'no newline'", b"no newline"),
        (r"printf '\n\n'", b"\n\n"),
    ],
)
async def test_every_byte_is_kept(place: Place, script: str, text: bytes) -> None:
    command = await place.start(script)

    assert (await place.follow(command)).parts == (text, b"")
    exact = await place.logs(command, offset=0)
    assert (exact.headers["Content-Type"], exact.body) == (BYTES, text)
    assert (await place.run(script))["stdout"] == text.decode(errors="replace")


async def test_a_line_of_ten_megabytes_comes_back_whole_in_every_format(
    place: Place,
) -> None:
    size = 10_000_000
    text = "x" * size
    script = f"head -c {size} /dev/zero | tr '\\0' x"
    command = await place.start(script)

    assert (await place.follow(command)).parts == (text.encode(), b"")
    for version, wanted in (
        (FIRST, text.encode()),
        (LABELLED, OUT + text.encode()),
    ):
        assert (await place.logs(command, version=version)).body == wanted
        ran = await place.run(script, version=version)
        assert ran["output"].encode() == wanted
    assert (await place.logs(command)).json() == {
        "output": text,
        "stdout": text,
        "stderr": "",
    }
    ran = await place.run(script)
    assert (ran["stdout"], ran["output"], ran["exitCode"]) == (text, text, 0)


async def test_a_long_log_of_both_outputs_is_the_same_by_every_way(
    place: Place,
) -> None:
    command = await place.start(
        "for i in $(seq 3000); do echo out é漢🙂 $i; echo err ü $i >&2; done"
    )
    out = "".join(f"out é漢🙂 {i}\n" for i in range(1, 3001))
    err = "".join(f"err ü {i}\n" for i in range(1, 3001))

    followed = await place.follow(command)
    log = (await place.logs(command)).json()
    labelled = (await place.logs(command, version=LABELLED)).body

    assert followed.parts == (out.encode(), err.encode())
    assert (log["stdout"], log["stderr"]) == (out, err)
    assert len(log["output"]) == len(out) + len(err)
    assert parts_of_any_size(labelled) == (out.encode(), err.encode())
    for number, (name, text) in enumerate((("stdout", out), ("stderr", err))):
        part = await place.logs(command, stream=name)
        assert part.body.decode() == text
        by_socket = await place.follow(command, stream=name)
        assert by_socket.parts[number].decode() == text
        assert by_socket.parts[1 - number] == b""


def parts_of_any_size(body: bytes) -> tuple[bytes, bytes]:
    """Take a labelled text apart."""
    found = [b"", b""]
    for record in body.split(OUT)[1:]:
        first, *rest = record.split(ERR)
        found[0] += first
        found[1] += b"".join(rest)
    return found[0], found[1]


async def test_the_first_clients_chunks_end_between_characters(place: Place) -> None:
    command = await place.start(
        r"""for b in '\303' '\251' '\346' '\274' '\242' '\360' '\237' '\231' '\202'
        do printf $b; sleep 0.02; done"""
    )
    url = place.desk.url(place.at(command, "/logs"), follow="true")
    async with place.desk.client.get(url, headers={VERSION_HEADER: FIRST}) as answer:
        pieces = [piece async for piece, _ in answer.content.iter_chunks() if piece]

    assert "".join(piece.decode(errors="ignore") for piece in pieces) == "é漢🙂"


async def test_half_a_character_is_not_held_back_for_good(place: Place) -> None:
    command = await place.start(r"printf 'a\303'; read x; printf '\251'")
    await place.until_printed(command, b"a\xc3")

    await place.send(command, "")

    log = (await place.logs(command)).json()
    assert await place.code(command) == 0
    assert log["stdout"].startswith("a")
    assert (await place.logs(command)).json()["stdout"] == "a\ufffd\n\ufffd"


# -- where sessions begin ---------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "at_home"),
    [(FIRST, True), ("0.102.0", True), ("0.103.0", False), (NEWEST, False), ("", 0)],
)
async def test_old_clients_sessions_begin_at_home(
    desk: Desk, version: str, at_home: bool
) -> None:
    place = await desk.create(version=version)

    where = desk.agent.home if at_home else desk.agent.work_dir
    assert await place.out("pwd") == f"{where}\n"


# -- the entrypoint ---------------------------------------------------------------


@pytest.fixture(scope="module")
def with_entrypoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Return an agent with a command of its own."""
    root: Path = tmp_path_factory.mktemp("entrypoint")
    words = [
        "sh",
        "-c",
        'printf "$1"; sleep 0.1; printf err >&2; exit 3',
        "a b",
        "o'ut",
    ]
    with running(root, entrypoint=words) as agent:
        yield agent


@pytest.fixture
async def entry(with_entrypoint: Agent) -> AsyncIterator[Desk]:
    """Return a client of an agent whose own command has ended."""
    async with asking(with_entrypoint) as desk:
        await desk.follow("/entrypoint/logs", follow="true")
        yield desk


async def test_the_entrypoint_is_told_of_and_hidden_from_the_list(entry: Desk) -> None:
    told = (await entry.ask("GET", "/entrypoint")).json()

    text = told["commands"][0].pop("command")
    assert text.startswith('sh -c \'printf "$1"; ')
    assert text.endswith(""" 'a b' 'o'"'"'ut'""")
    assert told == {
        "sessionId": "entrypoint",
        "commands": [{"id": "entrypoint_command", "exitCode": 3}],
    }
    assert (await entry.ask("GET")).json() == []
    command = await entry.ask("GET", "/entrypoint/command/entrypoint_command")
    assert command.json()["exitCode"] == 3
    other = await entry.ask("GET", "/entrypoint/command/none")
    assert other.failure == (404, "PROCESS_NOT_FOUND")


async def test_the_entrypoints_log_has_markers_but_for_current_clients(
    entry: Desk,
) -> None:
    for path in ("/entrypoint/logs", "/entrypoint/command/entrypoint_command/logs"):
        log = await entry.ask("GET", path)
        assert (log.json()["stdout"], log.json()["stderr"]) == ("o'ut", "err")
        for version in (FIRST, LABELLED, ""):
            old = await entry.ask("GET", path, version=version)
            assert old.body == OUT + b"o'ut" + ERR + b"err"
            assert old.headers["Content-Type"] == TEXT
            followed = await entry.follow(path, version=version, follow="true")
            assert followed.parts == (b"o'ut", b"err")
            assert followed.code == 1000


async def test_without_an_entrypoint_there_is_no_such_session(desk: Desk) -> None:
    for path in ("/entrypoint", "/entrypoint/logs", "/entrypoint/logs?follow=true"):
        told = await desk.ask("GET", path)
        assert told.failure == (404, "PROCESS_NOT_FOUND")
        assert told.json()["message"] == "session not found"
    with pytest.raises(WSServerHandshakeError) as refused:
        await desk.follow("/entrypoint/logs", follow="true")
    assert refused.value.status == 404


async def test_the_entrypoint_gets_the_agents_term_and_its_followers_the_rest(
    start_agent: StartAgent,
) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    agent = start_agent(entrypoint=["sh", "-c", script])
    async with asking(agent) as desk:
        url = desk.url("/entrypoint/logs", follow="true")
        async with desk.client.ws_connect(
            url, headers={VERSION_HEADER: NEWEST}
        ) as socket:
            assert (await socket.receive_bytes()) == OUT + b"up\n"
            stopping = asyncio.create_task(asyncio.to_thread(agent.stop))
            async for _ in socket:
                """Until it is closed."""
        assert socket.close_code in {1000, 1001}
        assert await stopping == 0

"""The proxy of a real agent, with real servers behind it."""

import asyncio
import contextlib
import http.client
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.ports.proxy.conftest import Speak
from tests.support.agent import Agent, StartAgent, read_answer

FILE_SERVER = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]

STREAMS = 500

STREAM = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print("port", server.getsockname()[1], flush=True)
connection, _ = server.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\n" + {head!r} + b"\\r\\n\\r\\nsome")
sys.stdin.read()
"""


@contextlib.contextmanager
def child(words: list[str], cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a server that says its port in its first line, while inside."""
    process = subprocess.Popen(
        words, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            yield process, int(line[line.index(b"port") + 1])
        finally:
            process.kill()


def test_pythons_file_server_is_reached_under_every_prefix(
    agent: Agent, tmp_path: Path
) -> None:
    (tmp_path / "a b.txt").write_text("found")
    with child(FILE_SERVER, tmp_path) as (_, port):
        for prefix in ("", "/toolbox/sandbox/toolbox", "/toolbox/sandbox", "/sandbox"):
            at = f"{prefix}/proxy/{port}"
            assert agent.request("GET", f"{at}/a%20b.txt").body == b"found"
            assert b"a%20b.txt" in agent.request("GET", at).body
            assert agent.request("GET", f"{at}/missing").status == 404


def test_the_agent_reaches_itself_with_the_callers_token(agent: Agent) -> None:
    own = f"/proxy/{agent.port}"

    answer = agent.request("GET", f"{own}/work-dir")
    without = agent.request("GET", f"{own}/work-dir", auth=False)
    sandbox = agent.request("GET", f"{own}/toolbox/s/toolbox/work-dir/")

    assert answer.json() == {"dir": str(agent.work_dir)}
    assert without.status == 401
    assert sandbox.json() == answer.json()


@pytest.mark.parametrize("hops", [1, 3])
async def test_the_agents_own_websockets_are_reached_through_itself(
    agent: Agent, hops: int
) -> None:
    url = f"{agent.url}{f'/proxy/{agent.port}' * hops}/files/watch?path=."
    async with (
        ClientSession(headers=agent.auth) as client,
        client.ws_connect(url) as socket,
    ):
        assert (await socket.receive_json())["kind"] == "ready"
        await asyncio.to_thread((agent.work_dir / "made").touch)
        assert (await socket.receive_json())["path"].endswith("made")


@pytest.mark.parametrize("form", ["/proxy/{}", "/sandbox/proxy/{}", "/%70roxy/{}"])
def test_five_hops_through_the_agent_are_enough_for_everybody(
    agent: Agent, form: str
) -> None:
    hop = form.format(agent.port)
    if "%" in form:
        # An encoded name is another name: there is no way to hide a hop.
        assert agent.request("GET", f"/proxy/{agent.port}{hop}/version").status == 404
        return

    five = agent.request("GET", hop * 5 + "/work-dir")
    six = agent.request("GET", hop * 6 + "/work-dir")

    assert five.status == 200
    assert six.status == 400
    assert six.json()["code"] == "BAD_REQUEST"


def test_hops_cannot_be_talked_away(agent: Agent) -> None:
    hop = f"/proxy/{agent.port}"
    headers = {"X-Toolbox-Proxy-Hops": "-100", "Connection": "X-Toolbox-Proxy-Hops"}

    assert agent.request("GET", hop * 6 + "/work-dir", headers=headers).status == 400


@pytest.mark.parametrize("head", [b"Content-Length: 100", b"X-Until: the end"])
def test_a_server_killed_in_its_answer_is_no_clean_end(
    agent: Agent, tmp_path: Path, head: bytes
) -> None:
    script = STREAM.format(head=head)
    with child([sys.executable, "-c", script], tmp_path) as (process, port):
        connection = http.client.HTTPConnection(agent.host, agent.port, timeout=8)
        with contextlib.closing(connection):
            connection.request("GET", f"/proxy/{port}/", headers=agent.auth)
            response = connection.getresponse()
            assert response.read(4) == b"some"
            os.kill(process.pid, signal.SIGKILL)
            if b"Length" in head:
                with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                    response.read()
            else:
                # Its kernel ends the connection as it would after a whole body.
                assert response.read() == b""

    assert agent.request("GET", f"/proxy/{port}/").status == 502


def test_query_strings_are_in_no_log(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent("--log-level", "debug")
    with child(FILE_SERVER, tmp_path) as (_, port):
        agent.request("GET", f"/proxy/{port}/?password=hunter2")
        agent.request("POST", f"/proxy/{port}/?password=hunter2")
    agent.request("GET", f"/proxy/{port}/?password=hunter2")

    assert "/proxy/{port}" in agent.log()
    assert "hunter2" not in agent.log()


def test_a_service_that_starts_up_is_waited_for_for_as_long_as_is_set(
    start_agent: StartAgent,
) -> None:
    patient = start_agent("--proxy-grace-s", "400ms")

    started = time.monotonic()
    answer = patient.request("GET", "/proxy/1/")

    assert answer.status == 502
    assert time.monotonic() - started >= 0.4


def test_a_grace_that_is_too_long_is_refused(tmp_path: Path) -> None:
    agent = Agent(tmp_path, ["--proxy-grace-s", "2s"])
    try:
        assert agent.process.wait(8) == 2
        assert "500ms" in agent.log()
    finally:
        agent.destroy()


def test_the_way_through_the_agent_takes_pipelined_requests_in_their_order(
    agent: Agent, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    with child(FILE_SERVER, tmp_path) as (_, port), agent.connection() as connection:
        heads = [
            f"GET /proxy/{port}/{name} HTTP/1.1\r\nHost: 127.0.0.1:{agent.port}\r\n"
            f"Authorization: Bearer {agent.token}\r\n\r\n"
            for name in ("first", "second")
        ]
        connection.sendall("".join(heads).encode())
        answers = [read_answer(connection).body for _ in heads]

    assert answers == [b"first", b"second"]


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_five_hundred_streams_at_once_all_go_on(
    agent: Agent, speak: Speak
) -> None:
    everybody = asyncio.Barrier(STREAMS + 1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for turn in range(3):
            writer.write(b"1\r\n%d\r\n" % turn)
            await everybody.wait()
        writer.write(b"0\r\n\r\n")

    # Of HTTP/1.0, which has no chunks, so that the whole can be compared.
    async def take(port: int) -> bytes:
        reader, writer = await asyncio.open_connection(agent.host, agent.port)
        head = f"GET /proxy/{port}/ HTTP/1.0\r\nHost: 127.0.0.1:{agent.port}\r\n"
        head += f"Authorization: Bearer {agent.token}\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.partition(b"\r\n\r\n")[2]

    port = await speak(talk)
    with descriptors_for(2 * STREAMS + 200):
        taking = [asyncio.create_task(take(port)) for _ in range(STREAMS)]
        for _ in range(3):
            # Only when all streams have come so far does any of them go on.
            await everybody.wait()
        answers = await asyncio.gather(*taking)

    assert set(answers) == {b"012"}


@contextlib.contextmanager
def descriptors_for(count: int) -> Iterator[None]:
    """Let this process have so many descriptors while inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

"""The routes about ports, on a real agent."""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.support.agent import Agent

PUBLISHED = range(3000, 10000)


@contextmanager
def listener(family: socket.AddressFamily, address: str) -> Iterator[int]:
    """Listen on a free port of the published range."""
    for port in PUBLISHED:
        try:
            server = socket.create_server((address, port), family=family)
        except OSError:
            continue
        with server:
            yield port
        return
    raise AssertionError("no free port")


LOOPBACK = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.mark.parametrize(("family", "address"), LOOPBACK)
def test_a_listener_is_listed_and_in_use_until_it_closes(
    agent: Agent, family: socket.AddressFamily, address: str
) -> None:
    with listener(family, address) as port:
        listed = agent.request("GET", "/port").json()["ports"]
        used = agent.request("GET", f"/port/{port}/in-use").json()

        assert port in listed
        assert listed == sorted(set(listed))
        assert used == {"isInUse": True}

    assert agent.request("GET", f"/port/{port}/in-use").json() == {"isInUse": False}
    assert port not in agent.request("GET", "/port").json()["ports"]


def test_the_agents_own_port_is_left_out(agent: Agent) -> None:
    answer = agent.request("GET", "/port?verbose=true").json()

    assert agent.port not in answer["ports"]
    assert agent.port not in [each["port"] for each in answer["sockets"]]


def test_nothing_is_told_of_sockets_unless_asked(agent: Agent) -> None:
    assert set(agent.request("GET", "/port").json()) == {"ports"}


def test_verbose_names_the_process(agent: Agent) -> None:
    code = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0));"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        port = int(child.stdout.readline())
        sockets = agent.request("GET", "/port?verbose=true").json()["sockets"]
        child.stdin.close()

    (found,) = [each for each in sockets if each["port"] == port]
    assert (found["address"], found["pid"]) == ("127.0.0.1", child.pid)
    assert "socket.create_server" in found["command"]


@pytest.mark.parametrize("port", ["2999", "10000", "x", "-3000", "3000.0", "%33000x"])
def test_a_port_out_of_the_range_is_refused(agent: Agent, port: str) -> None:
    answer = agent.request("GET", f"/port/{port}/in-use")

    assert answer.status == 400
    assert answer.json()["code"] == "BAD_REQUEST"
    assert "3000 to 9999" in answer.json()["message"]


def test_a_watch_tells_what_opens_and_closes(agent: Agent) -> None:
    connection = http.client.HTTPConnection(agent.host, agent.port, timeout=8)
    with closing(connection):
        connection.request("GET", "/port/watch", headers=agent.auth)
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        first = next_event(response)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            opened = until(response, "opened", port)
        closed = until(response, "closed", port)

    assert first["event"] == "snapshot"
    assert first["id"] == "1"
    assert port not in first["data"]["ports"]
    assert int(opened["id"]) < int(closed["id"])


def until(response: http.client.HTTPResponse, kind: str, port: int) -> dict[str, Any]:
    """Read events, of which others' tests cause some, until one is the wanted one."""
    while True:
        event = next_event(response)
        if event["event"] == kind and event["data"].get("port") == port:
            return event


def next_event(response: http.client.HTTPResponse) -> dict[str, Any]:
    """Read one event."""
    event: dict[str, Any] = {}
    while line := response.readline().decode().strip():
        name, _, value = line.partition(": ")
        event[name] = json.loads(value) if name == "data" else value
    return event

"""What `/system/metrics` tells besides, and its stream, of a real agent."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.agent import Agent

PLAIN = {
    "timestamp",
    "timestampUnix",
    "cpuCount",
    "cpuUsedPct",
    "memUsed",
    "memTotal",
    "memCache",
    "diskUsed",
    "diskTotal",
    "diskFree",
}


def metrics(agent: Agent, query: str = "") -> dict[str, Any]:
    """Return what the agent measures."""
    answer = agent.request("GET", f"/system/metrics{query}")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def stream(agent: Agent, interval: int) -> Iterator[Iterator[dict[str, Any]]]:
    """Follow the stream while inside."""
    with agent.connection() as connection:
        connection.sendall(
            f"GET /system/metrics/stream?interval={interval} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {agent.token}\r\n\r\n".encode()
        )
        lines = connection.makefile("rb")

        def events() -> Iterator[dict[str, Any]]:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

        yield events()
        lines.close()


def test_nothing_is_added_unless_it_is_asked_for(agent: Agent) -> None:
    assert set(metrics(agent)) == PLAIN
    assert set(metrics(agent, "?verbose=false&top=3")) == PLAIN


def test_verbose_tells_of_processes_load_network_and_history(agent: Agent) -> None:
    first = metrics(agent)

    told = metrics(agent, "?verbose=true&top=1000")

    assert set(told) == {*PLAIN, "processes", "load", "network", "history"}
    by_pid = {each["pid"]: each for each in told["processes"]}
    own = by_pid[agent.api_pid()]
    assert own["name"] == "toolbox-api"
    assert own["parent"] == agent.pid
    assert own["memRss"] > 1_000_000
    assert told["load"]["processes"] >= len(by_pid) - 5
    assert set(told["load"]) == {"one", "five", "fifteen", "processes"}
    assert set(told["network"]) == {"bytesSent", "bytesReceived"}
    plain = {name: told[name] for name in PLAIN}
    assert told["history"] == [first, plain]


def test_who_uses_the_processor_comes_first(agent: Agent) -> None:
    metrics(agent, "?verbose=true")
    # A name that no other process of this machine has.
    name = f"busy-{os.urandom(3).hex()}"
    busy = f"exec -a {name} bash -c 'while :; do :; done'"
    assert agent.execute(f'bash -c "{busy}" >/dev/null 2>&1 & echo $!').status == 200

    def listed() -> list[str]:
        return [
            each["name"]
            for each in metrics(agent, "?verbose=true&top=5")["processes"]
            if each["cpuPct"] > 0
        ]

    while not any("bash" in each or name in each for each in listed()):
        pass
    assert len(metrics(agent, "?verbose=true&top=2")["processes"]) == 2


def test_arguments_of_processes_are_not_told(agent: Agent) -> None:
    assert agent.execute("sh -c 'sleep 60; : canary-in-argv' >/dev/null 2>&1 &").status
    answer = agent.request("GET", "/system/metrics?verbose=true&top=1000")

    assert b"canary-in-argv" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/system/metrics?top=0",
        "/system/metrics?verbose=true&top=x",
        "/system/metrics/stream?interval=0",
        "/system/metrics/stream?interval=often",
    ],
)
def test_numbers_out_of_range_are_refused(agent: Agent, path: str) -> None:
    answer = agent.request("GET", path)

    assert (answer.status, answer.json()["code"]) == (400, "BAD_REQUEST")


def test_the_stream_tells_again_and_again_and_both_who_listen_the_same(
    agent: Agent,
) -> None:
    with stream(agent, 1) as one, stream(agent, 1) as other:
        first = [next(one), next(one)]
        again = [next(other), next(other)]

    assert all(set(each) == PLAIN for each in (*first, *again))
    assert first[0]["timestampUnix"] < first[1]["timestampUnix"]
    assert [each for each in again if each in first]
    assert first[-1] in metrics(agent, "?verbose=true")["history"]


def test_a_stream_ends_when_the_agent_stops(agent: Agent) -> None:
    with stream(agent, 3600) as events:
        next(events)
        agent.stop()
        assert list(events) == []


def test_nothing_is_measured_once_nobody_listens(agent: Agent) -> None:
    with stream(agent, 1) as events:
        next(events)
    history = metrics(agent, "?verbose=true")["history"]
    assert agent.execute("sleep 1.5").status == 200

    # The requests themselves, and at most the one that was being made.
    assert len(metrics(agent, "?verbose=true")["history"]) <= len(history) + 2

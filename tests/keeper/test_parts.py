"""The keeper's small parts, each by itself."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import (
    AgentError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    TooManyError,
)
from agent.keeper import fields, tree
from agent.keeper.answers import StartError, error_of
from agent.keeper.errors import Refusal
from agent.keeper.frames import Header
from agent.keeper.ladder import Ladder, Scope
from agent.keeper.loop import CROWDED_TIMERS, READ, Loop
from agent.keeper.notify import Notifier
from agent.keeper.store import STORE_MAX_BYTES, Store


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def turn(loop: Loop) -> None:
    """Turn once, without waiting."""
    loop.soon(lambda: None)
    loop.turn()


# -- the store --------------------------------------------------------------------


def test_the_store_has_a_bound_and_keeps_the_old_value_past_it() -> None:
    store = Store()
    store.set("a", b"x" * (STORE_MAX_BYTES - 1))

    with pytest.raises(Refusal) as refused:
        store.set("b", b"y")
    with pytest.raises(Refusal):
        store.set("a", b"x" * STORE_MAX_BYTES)

    assert refused.value.kind == "full"
    assert len(store.get("a")) == STORE_MAX_BYTES - 1
    store.delete("a")
    store.set("b", b"y" * (STORE_MAX_BYTES - 1))
    assert store.names() == ["b"]


def test_deleting_what_is_not_there_is_nothing() -> None:
    store = Store()

    store.delete("none")

    with pytest.raises(Refusal, match="none"):
        store.get("none")


# -- the loop ---------------------------------------------------------------------


def test_timers_run_in_order_and_cancelled_ones_not(loop: Loop) -> None:
    ran: list[int] = []
    for i in (3, 1, 2):
        loop.later(i / 1000, lambda i=i: ran.append(i))  # type: ignore[misc] # mypy cannot type a default in a lambda
    loop.later(0, lambda: ran.append(0)).cancel()
    loop.later(0.01, loop.stop)

    loop.run()

    assert ran == [1, 2, 3]


def test_a_descriptor_does_not_hear_what_was_meant_for_the_one_before(
    loop: Loop, tmp_path: Path
) -> None:
    pipes = [os.pipe(), os.pipe()]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    heard: list[int] = []
    fresh = -1

    def replace(_events: int) -> None:
        nonlocal fresh
        if fresh >= 0:
            return
        # Whichever comes first closes both; the other's event is under way by then.
        for reader, _ in pipes:
            loop.remove(reader)
            os.close(reader)
        fresh = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        loop.add(fresh, READ, heard.append)
        spare = os.dup(fresh)
        loop.add(spare, READ, heard.append)
        spares.append(spare)

    spares: list[int] = []
    for reader, writer in pipes:
        loop.add(reader, READ, replace)
        os.write(writer, b"x")
    loop.turn()

    assert {fresh, *spares} == {reader for reader, _ in pipes}
    assert heard == []
    with fifo.open("wb"):
        """Now it has something to tell."""
    loop.turn()
    assert heard
    for fd in (fresh, *spares, *(writer for _, writer in pipes)):
        os.close(fd)


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    for _ in range(20 * CROWDED_TIMERS):
        loop.later(86400, lambda: None).cancel()

    assert len(loop._timers) <= CROWDED_TIMERS


def test_a_handler_that_fails_is_taken_out_and_the_rest_goes_on(
    loop: Loop, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = socket.socketpair()
    heard: list[int] = []

    def fail(_events: int) -> None:
        heard.append(1)
        raise ValueError("a bug")

    loop.add(ours.fileno(), READ, fail)
    theirs.send(b"x")
    loop.soon(lambda: heard.append(2))
    turn(loop)
    turn(loop)

    assert heard == [1, 2]
    assert loop.descriptors() == 0
    assert "a bug" in capfd.readouterr().err
    ours.close()
    theirs.close()


# -- the process table ------------------------------------------------------------


def test_a_process_is_held_only_while_it_is_the_same_one() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = tree.look_up(child.pid)
        assert process is not None
        held = tree.hold(process)
        # Another process that got the same number would have started at another time.
        recycled = process._replace(started=process.started - 1)

        assert held >= 0
        assert tree.hold(recycled) == -1
        tree.send(held, signal.SIGKILL)
        child.wait()
        assert tree.hold(process) == -1
        # Nobody is hit by a signal for a process that has ended.
        tree.send(held, signal.SIGKILL)
        os.close(held)


def test_a_name_with_parentheses_and_spaces_is_read_rightly() -> None:
    code = (
        "import ctypes,sys;ctypes.CDLL(None).prctl(15,b') R 1 (x',0,0,0);"
        "print(flush=True);sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process = tree.look_up(child.pid)

        assert process is not None
        assert process.parent == os.getpid()
        assert process.alive
        child.kill()


def test_a_zombie_is_not_alive() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    process = tree.look_up(pid)

    assert process is not None
    assert not process.alive
    assert tree.hold(process) == -1
    os.waitpid(pid, 0)
    assert tree.look_up(pid) is None


def test_the_tag_is_matched_as_a_whole() -> None:
    # It writes once its environment is in place: for a moment after exec it is not.
    with subprocess.Popen(
        ["/bin/sh", "-c", "echo; read x"],
        env={"A": "TOOLBOX_OWNER=job:1", "TOOLBOX_OWNER": "job:12"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = tree.owner(child.pid)

    assert found == b"job:12"
    assert tree.owner(child.pid) is None


def test_a_ladder_does_not_leave_its_scope(loop: Loop) -> None:
    members = subprocess.Popen(["sleep", "60"], start_new_session=True)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    left: list[int] = []
    ladder = Ladder(loop, Scope(members.pid, b"", set))
    ladder.when_done(left.append)
    ladder.when_done(lambda _left: loop.stop())

    ladder.start(5)
    loop.run()

    assert left == [0]
    assert members.wait(5) == -signal.SIGTERM
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_ladder_for_nothing_is_done_at_once(loop: Loop) -> None:
    started = time.monotonic()
    ladder = Ladder(loop, Scope(0, b"none", set))
    done: list[int] = []
    ladder.when_done(done.append)

    ladder.start(5)

    assert done == [0]
    assert time.monotonic() - started < 1
    ladder.when_done(done.append)
    turn(loop)
    assert done == [0, 0]


# -- headers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "header"),
    [
        (lambda h: fields.text(h, "x"), {}),
        (lambda h: fields.text(h, "x"), {"x": 1}),
        (lambda h: fields.whole(h, "x"), {"x": 1.5}),
        (lambda h: fields.whole(h, "x"), {"x": True}),
        (lambda h: fields.whole(h, "x"), {"x": 2**63}),
        (lambda h: fields.seconds(h, "x"), {"x": -1}),
        (lambda h: fields.seconds(h, "x"), {"x": float("nan")}),
        (lambda h: fields.seconds(h, "x"), {"x": float("inf")}),
        (lambda h: fields.flag(h, "x"), {"x": 1}),
        (lambda h: fields.choice(h, "x", ("a", "b")), {"x": "c"}),
        (lambda h: fields.arguments(h, "x"), {"x": []}),
        (lambda h: fields.arguments(h, "x"), {"x": ["a", 1]}),
        (lambda h: fields.arguments(h, "x"), {"x": ["a\0"]}),
        (lambda h: fields.arguments(h, "x"), {"x": ["\ud800"]}),
        (lambda h: fields.variables(h, "x"), {"x": []}),
        (lambda h: fields.variables(h, "x"), {"x": {"a": 1}}),
        (lambda h: fields.variables(h, "x"), {"x": {"a=b": "c"}}),
        (lambda h: fields.variables(h, "x"), {"x": {"": "c"}}),
    ],
)
def test_a_wrong_field_is_refused(read: object, header: Header) -> None:
    assert callable(read)
    with pytest.raises(Refusal) as refused:
        read(header)

    assert refused.value.kind == "invalid"


@pytest.mark.parametrize(
    ("kind", "number", "kept"),
    [
        ("not-found", 0, NotFoundError),
        ("conflict", 0, ConflictError),
        ("invalid", 0, InvalidRequestError),
        ("too-many", 24, TooManyError),
        ("full", 0, TooLargeError),
        ("start-failed", 2, StartError),
        ("os", 28, StorageFullError),
        ("start-failed", 122, StorageFullError),
        ("os", 13, PermissionError),
    ],
)
def test_each_refusal_is_an_error_of_its_own(
    kind: str, number: int, kept: type[AgentError | OSError]
) -> None:
    error = error_of({"kind": kind, "message": "why", "errno": number})

    assert type(error) is kept
    assert "why" in str(error)


# -- the service manager ----------------------------------------------------------


def test_without_a_service_manager_nothing_is_told() -> None:
    notifier = Notifier({}, 1)

    notifier.tell("READY=1")

    assert notifier.watchdog_s == 0


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "junk"}, 0.0),
    ],
)
def test_the_watchdog_is_ours_or_none(environ: dict[str, str], expected: float) -> None:
    assert Notifier(environ, 7).watchdog_s == expected


def test_a_service_manager_that_is_gone_is_no_error() -> None:
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}, 1).tell("READY=1")

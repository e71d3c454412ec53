"""Ending a branch of a tree, and nothing else, by processes of the test's own."""

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.files.threads import Threads
from agent.keeper import tree
from agent.process.inventory import ending
from agent.process.inventory.ending import Branch
from tests.support.processes import alive, end_all
from tests.support.serving import descriptors


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; whatever is left of it is killed."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads("branches", 1)
    yield threads
    await threads.aclose()


async def test_a_number_that_is_anothers_by_now_is_not_ended(threads: Threads) -> None:
    with started("sleep", "600") as process:
        current = tree.look_up(process.pid)
        assert current is not None
        before = current._replace(started=current.started - 1)

        assert await Branch(before, threads).end(0) == 0

        assert alive(process.pid)


async def test_a_process_that_has_ended_is_no_error(threads: Threads) -> None:
    with started("sleep", "600") as process:
        root = tree.look_up(process.pid)
        process.kill()
    assert root is not None

    assert await Branch(root, threads).end(5) == 0


async def test_a_large_tree_is_ended_in_parts(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "HELD_MAX", 3)
    program = (
        "import os, time\n"
        "for _ in range(12): os.fork() or time.sleep(600)\n"
        "os.write(1, b'x'); time.sleep(600)"
    )
    before = descriptors()
    with started(sys.executable, "-c", program) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        root = tree.look_up(process.pid)
        assert root is not None
        members = [
            process.pid,
            *(each.pid for each in tree.descendants(tree.table(), {process.pid})),
        ]
        try:
            assert len(members) == 13
            assert await Branch(root, threads).end(0) == 0
            assert not any(map(alive, members))
        finally:
            end_all(members)
    assert descriptors() == before


async def test_what_cannot_be_killed_is_counted(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "LIMIT_S", 0.1)
    # As with a process of another user: the signal does not arrive.
    monkeypatch.setattr(tree, "send", lambda _fd, _number: None)
    with started("sleep", "600") as process:
        root = tree.look_up(process.pid)
        assert root is not None

        assert await Branch(root, threads).end(0) == 1

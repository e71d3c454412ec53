"""Ends a tree of processes: ask, wait the stated time, kill, until none is left.

    asking --all gone--> done
    asking --grace over--> killing --all gone--> done
    killing --LIMIT_S over--> done, with what could not be killed counted

What ends is not polled for: every process found is held by a pidfd, and the process table
is read again when all of them have ended. It is read in between only for what was not
there to be asked: a process that was made meanwhile, and one that was hit between its
fork and its exec, where a shell's child swallows what its parent would catch.
"""

import os
import signal
from collections.abc import Callable
from functools import partial

from agent.keeper import tree
from agent.keeper.loop import READ, Loop, Timer

LIMIT_S = 5.0
"""After so long of killing, what is left cannot be killed (state D, another's uid)."""

LOOK_AGAIN_S = 0.01
"""While killing: a tree that forks as fast as it is killed shows its new members only
when looked at."""

ASK_AGAIN_S = 0.05
"""While asking: before the first further look, and twice that before each next one."""

FREEZE_AFTER = 3
"""Looks with new members in them, after which all are stopped before any is killed."""

HELD_MAX = 512
"""Processes waited for at a time; of a larger tree the rest come with the next look."""


class Scope:
    """What belongs to a tree.

    Args:
        leader: The process it began with, or 0.
        tag: What its members carry in their environment, or empty.
        pipes: What only its members have inherited, by name.
        everything: All descendants of the keeper belong to it.
        spared: Asked at every look for processes that, with what descends from them, do
            not belong to it.
    """

    def __init__(
        self,
        leader: int,
        tag: bytes,
        spared: Callable[[], set[int]],
        *,
        pipes: frozenset[str] = frozenset(),
        everything: bool = False,
    ) -> None:
        self._pipes = pipes
        self._leader = leader
        self._tag = tag
        self._spared = spared
        self._everything = everything
        self._sessions = {leader} - {0}
        self._known: dict[int, int] = {}

    def look(self) -> list[tree.Process]:
        """Return the living members, parents before children.

        Members are remembered, so that what they leave behind is found by its session
        even after they have ended.
        """
        processes = tree.table()
        spared = self._spared()
        outside = {each.pid for each in tree.descendants(processes, spared)} | spared
        candidates = [
            each
            for each in tree.descendants(processes, {os.getpid()})
            if each.pid not in outside
        ]
        inside: set[int] = set()
        for each in candidates:
            # Parents come first, so one pass finds the whole of every branch.
            if each.parent in inside or self._belongs(each):
                inside.add(each.pid)
        members = [each for each in candidates if each.pid in inside]
        self._known = {each.pid: each.started for each in members}
        self._sessions |= {each.session for each in members}
        return [each for each in members if each.alive]

    def _belongs(self, process: tree.Process) -> bool:
        if self._everything or process.pid == self._leader:
            return True
        if self._known.get(process.pid) == process.started:
            return True
        if process.session in self._sessions:
            return True
        owner = tree.owner(process.pid) if self._tag else None
        if owner is not None:
            return owner == self._tag
        # Cut loose, and its environment emptied: the pipe it came with may tell.
        return bool(self._pipes) and tree.holds(process.pid, self._pipes)


class Ladder:
    """Ends everything in a scope, and says when it is done.

    Args:
        loop: The keeper's loop.
        scope: What to end.
        hang_up: Ask with HUP too, and again: an interactive shell ignores TERM, and may
            overlook one HUP while it prints its prompt.
    """

    def __init__(self, loop: Loop, scope: Scope, *, hang_up: bool = False) -> None:
        self._loop = loop
        self._scope = scope
        self._hang_up = hang_up
        self._pause_s = ASK_AGAIN_S
        self._held: dict[int, tree.Process] = {}
        self._asked: dict[int, int] = {}
        self._done: list[Callable[[int], None]] = []
        self._timer: Timer | None = None
        self._again: Timer | None = None
        self._killing = False
        self._fresh_looks = 0
        self._over = False

    def when_done(self, action: Callable[[int], None]) -> None:
        """Call `action` with the number of processes left, once it is over."""
        if self._over:
            self._loop.soon(lambda: action(0))
        else:
            self._done.append(action)

    def start(self, grace_s: float) -> None:
        """Begin: ask, unless there is no time to wait, else kill."""
        if grace_s <= 0:
            self.kill()
            return
        self._timer = self._loop.later(grace_s, self.kill)
        self._look()

    def hasten(self, grace_s: float) -> None:
        """Let the grace time be over `grace_s` from now at the latest."""
        if not self._killing and not self._over:
            earlier = self._loop.later(grace_s, self.kill)
            if self._timer is not None and self._timer.at <= earlier.at:
                earlier.cancel()
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = earlier

    def kill(self) -> None:
        """Ask no more: kill."""
        if self._killing or self._over:
            return
        self._killing = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.later(LIMIT_S, self._give_up)
        self._look()

    def _look(self) -> None:
        if self._over:
            return
        if self._again is not None:
            self._again.cancel()
        members = self._scope.look()
        if not members:
            self._finish(0)
            return
        fresh = [each for each in members if self._asked.get(each.pid) != each.started]
        if self._killing:
            self._fresh_looks += bool(fresh)
            if self._fresh_looks > FREEZE_AFTER:
                self._signal(members, (signal.SIGSTOP,))
            self._signal(members, (signal.SIGKILL,))
            self._again = self._loop.later(LOOK_AGAIN_S, self._look_again)
        else:
            self._ask(members, fresh)
            self._again = self._loop.later(self._pause_s, self._look_again)
            self._pause_s *= 2
        self._asked = {each.pid: each.started for each in members}
        if not self._held:
            # All of them ended between the look and the signal.
            self._again = self._loop.later(0.001, self._look)

    def _ask(self, members: list[tree.Process], fresh: list[tree.Process]) -> None:
        """Ask each one once; again only what cannot have heard."""
        again = [
            each
            for each in members
            if each not in fresh and tree.takes_default(each.pid, signal.SIGTERM)
        ]
        if self._hang_up:
            self._signal(members, (signal.SIGHUP,))
        self._signal(fresh + again, (signal.SIGTERM, signal.SIGCONT))

    def _look_again(self) -> None:
        self._again = None
        self._look()

    def _signal(self, members: list[tree.Process], numbers: tuple[int, ...]) -> None:
        """Signal each member once, and wait for its end."""
        waited = {each.pid: fd for fd, each in self._held.items()}
        for each in members:
            fd = waited.get(each.pid, -1)
            if fd < 0 and (fd := tree.hold(each)) < 0:
                continue
            for number in numbers:
                tree.send(fd, number)
            if each.pid in waited:
                continue
            if len(self._held) >= HELD_MAX:
                os.close(fd)
                continue
            self._held[fd] = each
            self._loop.add(fd, READ, partial(self._ended, fd))

    def _ended(self, fd: int, _events: int) -> None:
        self._loop.remove(fd)
        os.close(fd)
        del self._held[fd]
        if not self._held and not self._over:
            self._look()

    def _give_up(self) -> None:
        self._finish(len(self._held))

    def _finish(self, left: int) -> None:
        self._over = True
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        for fd in self._held:
            self._loop.remove(fd)
            os.close(fd)
        self._held.clear()
        for action in self._done:
            action(left)
        self._done.clear()

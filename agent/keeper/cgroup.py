"""Groups of the kernel that bound a whole tree (man 7 cgroups), where they may be made.

Version 2 needs a delegated group: ours, writable, whose processes are moved into a leaf of
their own first, because a group with processes cannot bound its children (the rule of no
internal processes). Version 1 has one tree for memory and one for the number of
processes. Where neither can be had, jobs have rlimits only.
"""

import contextlib
import os

from agent.keeper.limits import Limits

LEAF = "toolbox-agent"
PREFIX = "toolbox-job-"


class Group:
    """The group of one job; a directory in each tree that has to do with it.

    Args:
        paths: By controller.
        is_v2: Whether the names of the files are version 2's.
    """

    def __init__(self, paths: dict[str, str], *, is_v2: bool) -> None:
        self._paths = paths
        self._is_v2 = is_v2

    def enter(self) -> None:
        """Move this process into it.

        Raises:
            OSError: It may not.
        """
        for path in set(self._paths.values()):
            _write(f"{path}/cgroup.procs", "0")

    def peak_bytes(self) -> int:
        """Return the most memory that its processes had at one time, or 0."""
        name = "memory.peak" if self._is_v2 else "memory.max_usage_in_bytes"
        return _number(f"{self._paths.get('memory')}/{name}")

    def oom_kills(self) -> int:
        """Return how many of its processes were killed for want of memory."""
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        return _count(f"{self._paths.get('memory')}/{name}", "oom_kill")

    def remove(self) -> bool:
        """Remove it; return False when processes are left in it."""
        is_gone = True
        for path in set(self._paths.values()):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError:
                is_gone = False
        return is_gone


class Groups:
    """Makes groups below the keeper's own.

    Args:
        root: Where the trees are mounted.
        own: The file that tells this process's groups.
    """

    def __init__(
        self, root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup"
    ) -> None:
        self._root = root
        self._own = own
        self._is_v2 = os.path.exists(f"{root}/cgroup.controllers")
        self._bases: dict[str, str] | None = None
        self._is_ready = False
        self._left: list[Group] = []
        self._seen_kills = -1

    def create(self, name: str, limits: Limits) -> Group | None:
        """Return a new group with the bounds of memory and processes, or None.

        None where groups cannot be made; the caller falls back on rlimits.
        """
        self.clear()
        bases = self._find()
        wanted = [
            controller
            for controller, bound in (
                ("memory", limits.memory_bytes),
                ("pids", limits.processes),
            )
            if bound
        ]
        if not wanted or any(each not in bases for each in wanted):
            return None
        paths = {each: f"{bases[each]}/{PREFIX}{name}" for each in wanted}
        group = Group(paths, is_v2=self._is_v2)
        try:
            self._prepare()
            for path in set(paths.values()):
                os.mkdir(path)
            self._bound(paths, limits)
        except OSError:
            group.remove()
            return None
        return group

    def drop(self, group: Group) -> None:
        """Remove a group, later when processes are still in it."""
        self._left.append(group)
        self.clear()

    def clear(self) -> None:
        """Remove the groups that were dropped and in which nobody is left."""
        self._left = [group for group in self._left if not group.remove()]

    def has_killed(self) -> bool:
        """Tell whether the kernel has killed in our own group since the last question."""
        base = self._find().get("memory", "")
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        kills = _count(f"{base}/{name}", "oom_kill")
        before, self._seen_kills = self._seen_kills, kills
        return kills > before >= 0

    def _find(self) -> dict[str, str]:
        if self._bases is None:
            self._bases = self._read_own()
        return self._bases

    def _read_own(self) -> dict[str, str]:
        bases: dict[str, str] = {}
        with contextlib.suppress(OSError), open(self._own, encoding="utf-8") as file:
            for line in file:
                number, controllers, path = line.rstrip("\n").split(":", 2)
                if self._is_v2 and number == "0":
                    base = _below(self._root, path)
                    there = _read(f"{base}/cgroup.controllers").split()
                    bases = {each: base for each in ("memory", "pids") if each in there}
                elif not self._is_v2:
                    for each in controllers.split(","):
                        base = _below(f"{self._root}/{each}", path)
                        if each in {"memory", "pids"} and os.path.isdir(base):
                            bases[each] = base
        return bases

    def _prepare(self) -> None:
        """Have version 2 pass its controllers on to groups below ours.

        Raises:
            OSError: The group is not ours to divide.
        """
        if not self._is_v2 or self._is_ready:
            return
        base = next(iter(self._find().values()))
        leaf = f"{base}/{LEAF}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(leaf)
        for pid in _read(f"{base}/cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                _write(f"{leaf}/cgroup.procs", pid)
        _write(f"{base}/cgroup.subtree_control", "+memory +pids")
        self._is_ready = True

    def _bound(self, paths: dict[str, str], limits: Limits) -> None:
        if "memory" in paths:
            name = "memory.max" if self._is_v2 else "memory.limit_in_bytes"
            _write(f"{paths['memory']}/{name}", str(limits.memory_bytes))
            # Without this the excess would go to disk, where there is any swap.
            swap, bound = (
                ("memory.swap.max", 0)
                if self._is_v2
                else ("memory.memsw.limit_in_bytes", limits.memory_bytes)
            )
            with contextlib.suppress(OSError):
                _write(f"{paths['memory']}/{swap}", str(bound))
        if "pids" in paths:
            _write(f"{paths['pids']}/pids.max", str(limits.processes))


def _below(root: str, path: str) -> str:
    """Return where a group is mounted; a container may see only its own part."""
    place = f"{root}{path.rstrip('/')}"
    return place if os.path.isdir(place) else root


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    # Not by truncation, and never a new file: what is not there is an error.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else 0


def _count(path: str, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0

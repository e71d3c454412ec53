"""A real keeper, whose api is the test itself."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from agent.keeper.client import Keeper
from agent.settings import Settings
from tests.support.measuring import measuring
from tests.support.processes import alive, end_all, tagged, tree, wait_gone

ROOT = Path(__file__).parents[2]
RELAY = Path(__file__).with_name("relay.py")
START = Path(__file__).with_name("start.py")
TAG = "KEEPER_UNDER_TEST"
MIB = 1024 * 1024


class Api:
    """One generation: the line, and the process that the keeper takes for the api."""

    def __init__(self, pid: int, line: int, control: socket.socket) -> None:
        self.pid = pid
        self.line = line
        self._control = control
        self.keeper: Keeper | None = None

    async def open(self, *, ready: bool = True) -> Keeper:
        """Connect as the api does, and say so unless told otherwise."""
        self.keeper = await Keeper.connect(self.line)
        if ready:
            await self.keeper.ready()
        return self.keeper

    @property
    def listener(self) -> socket.socket:
        """The first socket to serve on, once connected."""
        assert self.keeper is not None
        return self.keeper.listeners[0]

    def kill(self) -> None:
        """Kill the process, as the kernel or a user would."""
        os.kill(self.pid, signal.SIGKILL)

    def leave(self, code: int = 0) -> None:
        """Let the process end by itself."""
        with contextlib.suppress(OSError):
            self._control.send(str(code).encode())

    async def aclose(self) -> None:
        """Close what the test holds of it."""
        if self.keeper is not None:
            await self.keeper.aclose()
            for listener in self.keeper.listeners:
                listener.close()
        else:
            os.close(self.line)
        self._control.close()


class House:
    """A running keeper.

    Args:
        root: Directory of its work dir, state and log, all made here.
        settings: Its options.
        environ: Variables besides a plain PATH and HOME.
        before: Words before the keeper's own command line.
    """

    def __init__(
        self,
        root: Path,
        settings: Settings,
        environ: Mapping[str, str],
        before: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.settings = settings
        self.work_dir = root / "work"
        self.state = Path(settings.state_dir)
        self.log = root / "keeper.log"
        self.tag = f"{os.getpid()}-{id(self)}"
        self.apis: list[Api] = []
        self.work_dir.mkdir(exist_ok=True)
        self._control = socket.socket(socket.AF_UNIX)
        # A path may be too long for an address; an abstract name is not.
        name = f"\0keeper-test-{self.tag}"
        self._control.bind(name)
        self._control.listen(64)
        self._control.setblocking(False)
        words = [
            *before,
            sys.executable,
            str(START),
            settings.to_json().decode(),
            str(self.work_dir),
            sys.executable,
            "-I",
            "-S",
            str(RELAY),
            name.replace("\0", "@"),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                words,
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(root),
                    "PYTHONPATH": str(ROOT),
                    TAG: self.tag,
                    **measuring(),
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that was started: the keeper, unless it is a namespace's parent."""
        return self.process.pid

    async def next_api(self) -> Api:
        """Wait for the next generation."""
        loop = asyncio.get_running_loop()
        control, _ = await loop.sock_accept(self._control)
        control.setblocking(True)
        text, fds, _, _ = await asyncio.to_thread(socket.recv_fds, control, 16, 1)
        api = Api(int(text), fds[0], control)
        self.apis.append(api)
        return api

    async def open(self) -> Keeper:
        """Wait for the next generation, and be it."""
        api = await self.next_api()
        return await api.open()

    async def exit_code(self) -> int:
        """Wait for the keeper's end."""
        return await asyncio.to_thread(self.process.wait, 15)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the keeper to stop."""
        self.process.send_signal(number)

    async def lines(self) -> list[str]:
        """Return what the keeper has printed, once it has ended."""
        assert self.process.stdout is not None
        return (await asyncio.to_thread(self.process.stdout.read)).decode().splitlines()

    async def aclose(self) -> None:
        """End everything, and see that nothing is left."""
        for api in self.apis:
            await api.aclose()
        if self.process.poll() is None:
            self.process.kill()
        await self.exit_code()
        left = await asyncio.to_thread(tagged, TAG, self.tag)
        await asyncio.to_thread(end_all, left)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._control.close()


@contextlib.asynccontextmanager
async def running(
    root: Path,
    environ: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    **options: object,
) -> AsyncIterator[House]:
    """Run a keeper while inside."""
    options = {
        "port": 0,
        "state_dir": str(root / "state"),
        "grace_s": 2.0,
        **options,
    }
    house = House(root, Settings(**options), environ or {}, before)  # type: ignore[arg-type] # each test's own
    try:
        yield house
    finally:
        await house.aclose()


def below(house: House) -> set[int]:
    """Return what lives of all that descends from the keeper, its api left out."""
    found = tree(house.pid) - {api.pid for api in house.apis}
    return {pid for pid in found if alive(pid)}


async def gone(pid: int) -> bool:
    """Wait until a process has ended; False when it does not."""
    return await asyncio.to_thread(wait_gone, pid)

"""Full-screen programs, seen through a terminal emulator (pyte)."""

import asyncio
import contextlib
import sys
import textwrap
from collections.abc import AsyncIterator

import pyte
import pytest

from tests.pty.conftest import PROMPT, Desk, Screen, asking, settle_in
from tests.support.agent import Agent, StartAgent

pytestmark = pytest.mark.timeout(30)

COLUMNS, ROWS = 90, 28


class Display(pyte.Screen):
    """pyte's, which knows the first parameter of no private sequence."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        """Set colours; the private form (xterm's key settings) shows nothing."""
        if not private:
            super().select_graphic_rendition(*attributes)


class Emulator:
    """What a person at the terminal would see."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.display = Display(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.display)
        self._shown = 0

    def draw(self) -> None:
        """Take over what has come."""
        self._stream.feed(bytes(self.screen.output[self._shown :]))
        self._shown = len(self.screen.output)

    @property
    def text(self) -> str:
        """All lines, without the blanks at their ends."""
        return "\n".join(line.rstrip() for line in self.display.display)

    async def until(self, *wanted: str) -> str:
        """Go on until all of these are to be seen at once."""
        self.draw()
        while not all(each in self.text for each in wanted):
            assert await self.screen.step(), self.text
            self.draw()
        return self.text

    async def type(self, text: str) -> None:
        """Press keys."""
        await self.screen.type(text)

    async def leave(self, key: str) -> None:
        """End the program by a key, and see that the shell is there again."""
        start = len(self.screen.output)
        await self.screen.type(key)
        await self.screen.until(PROMPT, start)
        await self.screen.run("echo le''ft", b"left")

    async def resize(self, desk: Desk, columns: int, rows: int) -> None:
        """Drag the window's corner."""
        await desk.ask("POST", "/a/resize", {"cols": columns, "rows": rows})
        self.display.resize(rows, columns)


@contextlib.asynccontextmanager
async def sitting_at(desk: Desk) -> AsyncIterator[Emulator]:
    """Sit at a terminal with a prompt."""
    async with desk.create("a", cols=COLUMNS, rows=ROWS) as screen:
        await screen.until(PROMPT)
        yield Emulator(screen)


async def test_vim_edits_a_file(desk: Desk, agent: Agent) -> None:
    file = agent.work_dir / "poem.txt"
    file.write_text("roses are red\n" * 5 + "violets are ble\n")
    async with sitting_at(desk) as seat:
        await seat.type("vim.tiny -u NONE poem.txt\n")
        await seat.until("roses are red", "violets are ble", "~")
        await seat.type("G$iu\x1b")
        await seat.until("violets are blue")
        await seat.type(":set number\r")
        await seat.until("6 violets are blue")
        await seat.resize(desk, 40, 10)
        await seat.until("6 violets are blue")
        await seat.type(":wq\r")
        await seat.until("READY>")

    assert file.read_text().endswith("violets are blue\n")


async def test_htop_shows_processes_and_quits(desk: Desk) -> None:
    async with sitting_at(desk) as seat:
        await seat.type("htop\n")
        await seat.until("PID", "USER", "Mem[", "F10")
        await seat.leave("q")


async def test_tmux_splits_detaches_and_is_there_again(desk: Desk) -> None:
    async with sitting_at(desk) as seat:
        await seat.type("tmux -f /dev/null -S ./socket new -s work\n")
        await seat.until("[work]")
        await seat.type("\x02%")
        await seat.until("│")
        await seat.type("echo on the ri''ght\r")
        await seat.until("on the right")
        await seat.type("\x02d")
        await seat.until("[detached (from session work)]")
        await seat.type("tmux -S ./socket attach\n")
        await seat.until("[work]", "│", "on the right")
        await seat.type("tmux kill-server\r")
        await seat.until("[server exited]")


PAINTER = textwrap.dedent(
    """
    import curses

    def main(window):
        curses.curs_set(0)
        curses.start_color()
        # Curses looks for a new size before it waits; one that comes in between would
        # otherwise be seen with the next key only.
        window.timeout(100)
        keys = ""
        while True:
            rows, columns = window.getmaxyx()
            # What an emulator makes of its lines when it is resized is its own affair.
            window.clear()
            window.border()
            window.addstr(1, 2, f"size {rows}x{columns} keys {keys}")
            window.addstr(rows - 2, columns - 8, "corner")
            window.refresh()
            key = window.getch()
            if key == ord("q"):
                return
            if key == curses.KEY_UP:
                keys += "^"
            elif key not in (-1, curses.KEY_RESIZE):
                keys += chr(key)

    curses.wrapper(main)
    """
)


async def test_a_full_screen_python_program_hears_keys_and_sizes(
    desk: Desk, agent: Agent
) -> None:
    (agent.work_dir / "painter.py").write_text(PAINTER)
    async with sitting_at(desk) as seat:
        await seat.type(f"{sys.executable} painter.py\n")
        await seat.until(f"size {ROWS}x{COLUMNS} keys", "corner")
        await seat.type("ab\x1bOA")
        await seat.until("keys ab^")
        for columns, rows in ((40, 12), (132, 43), (70, 20)):
            await seat.resize(desk, columns, rows)
            await seat.until(f"size {rows}x{columns} keys ab^", "corner")
        assert seat.display.display[18][62:68] == "corner"
        await seat.leave("q")


async def test_a_second_client_sees_the_same_screen(desk: Desk, agent: Agent) -> None:
    (agent.work_dir / "painter.py").write_text(PAINTER)
    async with sitting_at(desk) as seat:
        await seat.type(f"{sys.executable} painter.py\n")
        await seat.until("size", "corner")

        async with desk.connect("a", since=0) as screen:
            other = Emulator(screen)
            await other.until("size", "corner")
            await asyncio.gather(seat.type("x"), other.type("x"))
            assert await seat.until("keys xx") == await other.until("keys xx")
        await seat.type("q")


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash", "/usr/bin/zsh"])
async def test_every_shell_is_interactive_and_a_login_shell(
    start_agent: StartAgent, shell: str
) -> None:
    agent = start_agent("--shell", shell)
    settle_in(agent.home)
    async with asking(agent.url, agent.auth) as desk, desk.create("a") as screen:
        await screen.until(PROMPT)
        shown = await screen.run("echo fl''ags $- on $(tty) do''ne", b"done")
        flags, _, tty = shown.partition(b"flags ")[2].partition(b" on ")
        assert b"i" in flags
        assert tty.startswith(b"/dev/pts/")
        await screen.run("sh -c 'echo $((6*7)); exec sleep 99'", b"42")
        start = len(screen.output)
        await screen.type("\x03")
        await screen.until(PROMPT, start)
        await screen.run("(exit 130); echo code''=$?", b"code=130")
        await screen.type("exit 5\n")

        assert (await screen.until_closed())[0] == 1011
        assert screen.controls[-1]["exitCode"] == 5

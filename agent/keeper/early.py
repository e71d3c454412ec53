"""Starts the api before anything else is done, and hands it to the keeper.

An api needs five times as long as the keeper until it can serve, and two processors can
work on both at once: so the program's first act is to start it, and it imports what it
needs while the options are read and the keeper comes up. It learns options and sockets by
the keeper's greeting; should there never be one, its line is closed and it ends.

Standard library only, and of that as little as can be: all of it delays the api.
"""

import os
import socket
import sys

API_COMMAND = (
    "import runpy,sys;"
    "sys.path.append(sys.argv.pop(1));"
    "runpy._run_module_as_main('agent.api')"
)
"""`-m agent.api`, found where this package was found. Isolated mode (-I) is kept whatever
the installation: alone, `-I -m` finds an installed or editable package but neither a plain
source tree nor one in the user's site directory."""

LINE_FD = 3
"""The api's descriptor of its end of the line to the keeper."""

FIRST_GENERATION = 1

_SIGNALS = (1, 2, 3, 13, 15, 17, 25)
"""HUP, INT, QUIT, PIPE, TERM, CHLD, XFSZ: what a caller, or Python, may have had ignored.
As numbers, because the module `signal` would cost two milliseconds."""

_OURS = b"TOOLBOX_"
# What a service manager says to the agent and to nobody else.
_FORGOTTEN = frozenset(
    (
        b"NOTIFY_SOCKET",
        b"WATCHDOG_USEC",
        b"WATCHDOG_PID",
        b"LISTEN_FDS",
        b"LISTEN_PID",
        b"LISTEN_FDNAMES",
        b"CREDENTIALS_DIRECTORY",
        b"INVOCATION_ID",
        b"JOURNAL_STREAM",
        b"SYSTEMD_EXEC_PID",
    )
)


def keep_descriptors() -> None:
    """Let nothing that the caller left open go on to processes that we start."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                # The one by which the directory was read is closed again by now.
                continue


def package_root() -> str:
    """Return the directory that has the package `agent` in it."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def interpreter_flags() -> list[str]:
    """Return the interpreter's options for a process of ours.

    UTF-8 whatever the locale: file names and arguments are bytes, and must come out of
    text as they went in.
    """
    return ["-I", "-X", "utf8", *(["-B"] if sys.flags.dont_write_bytecode else [])]


def api_argv() -> list[str]:
    """Return the command line of the api process."""
    return [sys.executable, *interpreter_flags(), "-c", API_COMMAND, package_root()]


def base_environment(environ: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what children may see of the agent's environment."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OURS) and name not in _FORGOTTEN
    }


def owner_tag(generation: int) -> bytes:
    """Return what an api and its own children have as `TOOLBOX_OWNER`."""
    return b"api:%d" % generation


class EarlyApi:
    """An api that was started and has no keeper yet.

    Attributes:
        pid: The process, a child of this one.
        line: The keeper's end of its line.
    """

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.line = line

    @classmethod
    def start(cls) -> "EarlyApi":
        """Start it.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        environment = base_environment(dict(os.environb))
        environment[b"TOOLBOX_OWNER"] = owner_tag(FIRST_GENERATION)
        with theirs:
            pid = spawn_api(api_argv(), environment, theirs.fileno())
        return cls(pid, ours)

    def abandon(self) -> None:
        """End it, because there will be no keeper."""
        self.line.close()
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def spawn_api(argv: list[str], environment: dict[bytes, bytes], line: int) -> int:
    """Start an api with its end of the line; return its pid.

    Raises:
        OSError: It cannot be started.
    """
    return os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, line, LINE_FD),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_SIGNALS,
    )

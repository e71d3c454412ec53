"""Tells systemd how the agent is (man 3 sd_notify), when systemd wants to know."""

import contextlib
import socket
from collections.abc import Mapping


class Notifier:
    """The way to the service manager.

    Args:
        environ: The environment the agent was started with.
        pid: The process that the service manager started.

    Attributes:
        watchdog_s: It wants to hear from us this often; 0: never.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self.watchdog_s = 0.0
        if environ.get("WATCHDOG_PID", str(pid)) == str(pid):
            with contextlib.suppress(ValueError):
                self.watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6

    def tell(self, *lines: str) -> None:
        """Send assignments such as `READY=1`; nobody there is no error."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line,
        ):
            line.setblocking(False)
            line.sendto("\n".join(lines).encode(), self._address)

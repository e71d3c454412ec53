"""Starts the keeper: sockets first, then its own process's standing, then the api."""

import contextlib
import gc
import os
import signal
import socket

from agent.keeper import hardening, init
from agent.keeper.core import STOPPING, Core
from agent.keeper.listen import ListenError, listen, port_of
from agent.keeper.log import complain
from agent.keeper.notify import Notifier
from agent.keeper.spawn import api_argv as default_api_argv
from agent.keeper.state import State, StateError
from agent.settings import Settings

LISTEN_FAILED = 1
STATE_UNUSABLE = os.EX_CONFIG


def run(settings: Settings, work_dir: str, api_argv: list[str] | None = None) -> int:
    """Be the keeper until told to stop; return the process's exit code.

    As PID 1 this forks first, and the caller's process stays behind as the init.

    Args:
        settings: The agent's options.
        work_dir: The absolute directory that relative ones resolve against.
        api_argv: The api's command line; tests give their own.
    """
    hardening.open_standard_fds()
    started_as = os.getpid()
    # A signal that comes before there is anybody to hear it waits until there is.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    if started_as == 1:
        ended = init.stay_behind()
        if ended is not None:
            return ended
    try:
        listeners = _bind(settings)
    except ListenError as error:
        complain(f"toolbox-agent: {error}")
        return LISTEN_FAILED
    try:
        state = State(settings.state_dir)
        state.open()
    except StateError as error:
        complain(f"toolbox-agent: {error}")
        return STATE_UNUSABLE
    announce(port_of(listeners[0]))
    notifier = Notifier(os.environ, started_as)
    core = Core(
        settings,
        work_dir,
        api_argv or default_api_argv(),
        state,
        listeners,
        notifier,
    )
    hardening.hide()
    hardening.adopt_orphans()
    # Nothing that exists by now is garbage; it need not be looked at again.
    gc.collect()
    gc.freeze()
    os.chdir("/")
    try:
        return core.run()
    finally:
        signal.set_wakeup_fd(-1)
        for each in listeners:
            each.close()


def _bind(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets; the dev command has two."""
    ports = [settings.port] + ([settings.dev_port] if settings.dev else [])
    bound: list[socket.socket] = []
    try:
        bound.extend(listen(settings.host, port) for port in ports)
    except ListenError:
        for each in bound:
            each.close()
        raise
    return bound


def announce(port: int) -> None:
    """Print the line that runners wait for (00 §1); connections are held from now on."""
    with contextlib.suppress(OSError):
        os.write(1, f"Starting toolbox server on port {port}\n".encode())

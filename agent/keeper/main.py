"""Starts the keeper: sockets first, then its own process's standing, then the api."""

import contextlib
import gc
import os
import signal
import socket

from agent.keeper import hardening
from agent.keeper.core import STOPPING, Core
from agent.keeper.early import EarlyApi, api_argv as own_api_argv
from agent.keeper.listen import ListenError, listen, port_of
from agent.keeper.log import complain
from agent.keeper.notify import Notifier
from agent.keeper.options import Options
from agent.keeper.state import State, StateError

LISTEN_FAILED = 1
LAST_PORT = 65535
STATE_UNUSABLE = os.EX_CONFIG


def run(
    options: Options,
    *,
    early: EarlyApi | None = None,
    api_argv: list[str] | None = None,
    started_as: int = 0,
) -> int:
    """Be the keeper until told to stop; return the process's exit code.

    Args:
        options: The keeper's part of the agent's options.
        early: The first api, when it was started already.
        api_argv: The api's command line; tests give their own.
        started_as: The process id by which a service manager knows the agent; as PID 1
            that is the init's. 0: this process's own.
    """
    hardening.open_standard_fds()
    # A signal that comes before there is anybody to hear it waits until there is.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        listeners = _listen(options)
        state = State(options.state_dir)
        state.open()
    except (ListenError, StateError) as error:
        complain(f"toolbox-agent: {error}")
        if early is not None:
            early.abandon()
        return LISTEN_FAILED if isinstance(error, ListenError) else STATE_UNUSABLE
    announce(port_of(listeners[0]))
    core = Core(
        options,
        api_argv or own_api_argv(),
        state,
        listeners,
        Notifier(os.environ, started_as or os.getpid()),
        early,
    )
    hardening.show_as(b"toolbox-keeper")
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


def _listen(options: Options) -> list[socket.socket]:
    """Return the listening sockets; the dev command has three."""
    ports = {"--port": options.port}
    if options.is_dev:
        ports["--dev-port"] = options.dev_port
        ports["--preview-port"] = preview_port(options)
    opened: list[socket.socket] = []
    for option, port in ports.items():
        try:
            opened.append(listen(options.host, port))
        except ListenError as error:
            for each in opened:
                each.close()
            hint = f"; another port is taken by {option}" if options.is_dev else ""
            raise ListenError(f"{error}{hint}") from error
    return opened


def preview_port(options: Options) -> int:
    """Return the port of the dev command's previews: by default after its own one."""
    if options.preview_port >= 0:
        return options.preview_port
    return options.dev_port + 1 if 0 < options.dev_port < LAST_PORT else 0


def announce(port: int) -> None:
    """Print the line that runners wait for (00 §1); connections are held from now on."""
    with contextlib.suppress(OSError):
        os.write(1, f"Starting toolbox server on port {port}\n".encode())

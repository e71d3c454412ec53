"""The minimal init that stays behind when the agent is PID 1.

It starts nothing but the keeper, so that its `waitpid(-1)` can steal no exit status that
somebody else waits for; it passes signals on, reaps, and ends with the keeper's status.
It never runs a signal handler: signals are blocked and taken one at a time, which also
means that none is lost between two looks (man 2 sigwaitinfo, man 7 pid_namespaces).
"""

import contextlib
import os
import signal

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def stay_behind() -> int | None:
    """Fork; return None in the child, which is to be the keeper.

    In the parent, return the exit code once the keeper has ended.
    """
    taken = {*FORWARDED, signal.SIGCHLD}
    # Blocked before the fork, so that nothing that comes early is lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    keeper = os.fork()
    if keeper == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    # Imported by this half only: the other is on its way to serving.
    from agent.keeper.hardening import hide, wipe_environment  # noqa: PLC0415

    # The environment that the container gave would stay readable in this process for
    # ever, a token in it too; the keeper begins anew without.
    wipe_environment()
    hide()
    while True:
        number = signal.sigwaitinfo(taken).si_signo
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, number)
        elif (status := _reap(keeper)) is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reap(keeper: int) -> int | None:
    """Reap whatever has ended; return the keeper's status if it is among it."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == keeper:
                found = status
    return found

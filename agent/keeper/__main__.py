"""The keeper's own process: what `toolbox-agent serve` turns into once all is checked.

Started anew by execve, isolated and without site-packages, so that it carries neither the
weight of the command line nor a secret in its environment. Its arguments: the descriptor
of the options, the work dir, process id and descriptor of the api that was started early,
and the process id by which a service manager knows the agent.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main() -> int:
    """Be the keeper; return the process's exit code."""
    sys.path.append(ROOT)
    # Found only now that its place is on the path.
    import socket  # noqa: PLC0415

    from agent.keeper.early import EarlyApi  # noqa: PLC0415
    from agent.keeper.main import run  # noqa: PLC0415
    from agent.keeper.options import Options  # noqa: PLC0415

    settings_fd, work_dir, api_pid, line_fd, started_as = sys.argv[1:]
    with open(int(settings_fd), "rb") as file:
        options = Options(file.read(), work_dir)
    line = socket.socket(fileno=int(line_fd))
    line.set_inheritable(False)
    early = EarlyApi(int(api_pid), line)
    return run(options, early=early, started_as=int(started_as))


if __name__ == "__main__":
    sys.exit(main())

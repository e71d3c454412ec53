"""Starts a keeper with the api given on the command line: `start.py settings work-dir -- api`."""

import os
import sys

from agent.keeper.init import stay_behind
from agent.keeper.main import run
from agent.keeper.options import Options


def main() -> int:
    """Run the keeper."""
    settings, work_dir, *api = sys.argv[1:]
    started_as = os.getpid()
    if started_as == 1:
        ended = stay_behind()
        if ended is not None:
            return ended
    options = Options(settings.encode(), work_dir)
    return run(options, api_argv=api, started_as=started_as)


if __name__ == "__main__":
    sys.exit(main())

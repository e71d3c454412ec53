"""Starts a keeper with the api given on the command line: `start.py settings work-dir -- api`."""

import sys

from agent.keeper.main import run
from agent.settings import Settings


def main() -> int:
    """Run the keeper."""
    settings, work_dir, *api = sys.argv[1:]
    return run(Settings.from_json(settings.encode()), work_dir, api)


if __name__ == "__main__":
    sys.exit(main())

"""Lets coverage count what the agent's processes run, too.

Children inherit coverage's variable, and a file in site-packages reads it. The keeper runs
without site-packages (`-S`), so under coverage, and only there, it is started without that
flag; the steps that try the installed agent run it as it is.
"""

import os

VARIABLE = "COVERAGE_PROCESS_CONFIG"

KEEPING_SITE = """
import os, sys
sys.argv[0] = "toolbox-agent"
execve = os.execve
def keeping_site(path, words, environ):
    execve(path, [word for word in words if word != "-S"], environ)
os.execve = keeping_site
from agent.__main__ import main
sys.exit(main())
"""
"""The agent's command line, whose keeper loads site-packages."""


def is_measured() -> bool:
    """Tell whether this run counts what is run."""
    return bool(os.environ.get(VARIABLE))


def measuring(*, on: bool = True) -> dict[str, str]:
    """Return the variable that a child has to have to be counted, or not to be."""
    return (
        {VARIABLE: os.environ.get(VARIABLE, "") if on else ""} if is_measured() else {}
    )

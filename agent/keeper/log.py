"""The keeper's own log: one JSON object a line on standard error, like the api's.

Never more than a plain write: the logging module would be a third of the keeper's
memory, and a full disk or a closed terminal must not end it.
"""

import contextlib
import json
import os
import time


def say(level: str, message: str, **facts: str | float) -> None:
    """Write one line; what cannot be written is lost."""
    now = time.time()
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        + f".{int(now % 1 * 1e6):06d}+00:00",
        "level": level,
        "logger": "agent.keeper",
        "message": message,
        **facts,
    }
    complain(json.dumps(line))


def complain(line: str) -> None:
    """Write one plain line to standard error, for whoever started the agent."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))

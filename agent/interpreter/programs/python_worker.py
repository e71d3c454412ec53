"""Starts a Python context's worker, which is `python_context.py` beside this.

A module of its own, because Python keeps the compiled form of modules only: compiling all
of it would take as long as the rest of the start.
"""

import sys

_directory = __file__.rpartition("/")[0]
_is_first = not getattr(sys.flags, "safe_path", False)
if not _is_first:
    sys.path.insert(0, _directory)

import python_context  # type: ignore[import-not-found] # noqa: E402 - found only now

# The code finds modules as `python -c` does: beside where it runs, not beside us.
if _is_first:
    sys.path[0] = ""
else:
    del sys.path[0]
del sys.modules["python_context"]

python_context.main()

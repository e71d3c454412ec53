"""Answers one request: `main()` reads it from the program's argument.

Standard library only, and no more of it than is needed: the program is started anew for
every search. What only some searches need is imported by those.
"""

import _signal as signal  # type: ignore[import-not-found] # `signal` costs 5 ms
import gc
import os
import resource
import sys

from agent.files.search.engine.answer import (
    Answer,
    Clock,
    FullError,
    InvalidError,
    LateError,
)
from agent.files.search.engine.bounds import MEMORY_MAX_BYTES
from agent.files.search.engine.mounts import may_wait, mounted
from agent.files.search.engine.request import Request, raw

_DIRECTORY, _REGULAR, _TYPE = 0o040000, 0o100000, 0o170000
"""Of a mode (man 7 inode): `stat` has them as well, and would be one import more."""


def main() -> None:
    """Answer the request in the argument."""
    # Nothing here makes cycles, and there is much to look through.
    gc.disable()
    request = Request.from_argument(sys.argv[1])
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = MEMORY_MAX_BYTES if hard < 0 else min(MEMORY_MAX_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    clock = Clock()
    answer = Answer(request, clock)
    search = _Search(request, answer)
    cut = ""
    try:
        clock.start(request.limit_s)
        search.run()
    except LateError:
        cut = "time"
    except FullError as error:
        cut = str(error)
    except InvalidError as error:
        answer.refuse(str(error))
        return
    answer.finish(cut, search.engine)


class _Search:
    """One search, and which engine it is that searches."""

    def __init__(self, request: Request, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self.engine = "python"

    def run(self) -> None:
        """Search for what is asked."""
        if self._request.kind == "names":
            self._find_names()
        elif _has_files(self._request):
            self._find_text()

    def _find_names(self) -> None:
        from agent.files.search.engine.names import Names  # noqa: PLC0415

        Names(self._request, self._answer).find()

    def _find_text(self) -> None:
        request = self._request
        if _is_for_ripgrep(request):
            from agent.files.search.engine.process import (  # noqa: PLC0415
                UnusableError,
            )
            from agent.files.search.engine.ripgrep import Ripgrep  # noqa: PLC0415

            self.engine = "ripgrep"
            try:
                Ripgrep(request, self._answer).find()
                return
            except UnusableError:
                self.engine = "python"
                if self._answer.position is not None:
                    request = request.going_on(*self._answer.position)
        from agent.files.search.engine import workers  # noqa: PLC0415

        workers.find(request, self._answer)


def _is_for_ripgrep(request: Request) -> bool:
    """Tell whether ripgrep is there, can be asked, and will come to an end."""
    if request.ripgrep is None or "\0" in request.pattern:
        return False
    return not may_wait(os.path.realpath(raw(request.root) or b"/"), mounted())


def _has_files(request: Request) -> bool:
    """Tell whether there is anything to look into for a text."""
    if not request.regex and "\n" in request.pattern:
        # No line holds a line end.
        return False
    try:
        mode = os.stat(raw(request.root) or b"/").st_mode
    except OSError:
        return False
    return mode & _TYPE in {_DIRECTORY, _REGULAR}

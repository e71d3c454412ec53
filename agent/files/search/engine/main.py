"""Answers one request: `main()` reads it from the program's argument.

Standard library only, and no more of it than is needed: the program is started anew for
every search.
"""

import os
import re
import resource
import signal
import stat
import sys
from json.encoder import encode_basestring

from agent.files.search.engine import workers
from agent.files.search.engine.answer import (
    Answer,
    Block,
    Clock,
    FullError,
    InvalidError,
    LateError,
)
from agent.files.search.engine.bounds import MEMORY_MAX_BYTES
from agent.files.search.engine.globs import Test, any_test, name_test
from agent.files.search.engine.request import Request, raw
from agent.files.search.engine.ripgrep import Ripgrep, UnusableError, can_search
from agent.files.search.engine.walking import walk


def main() -> None:
    """Answer the request in the argument."""
    request = Request.from_json(sys.argv[1])
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
    except (InvalidError, re.error) as error:
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
            _find_names(self._request, self._answer)
        elif _has_files(self._request):
            self._find_text()

    def _find_text(self) -> None:
        request = self._request
        if can_search(request):
            self.engine = "ripgrep"
            try:
                Ripgrep(request, self._answer).find()
                return
            except UnusableError:
                self.engine = "python"
                request = self._rest(request)
        workers.find(request, self._answer)

    def _rest(self, request: Request) -> Request:
        """Return the request for what comes behind the answer so far."""
        if self._answer.position is None:
            return request
        path, line = self._answer.position
        return request._replace(after=(os.fsdecode(path), line))


def _has_files(request: Request) -> bool:
    """Tell whether there is anything to look into for a text."""
    if not request.regex and "\n" in request.pattern:
        # No line holds a line end.
        return False
    try:
        mode = os.stat(raw(request.root) or b"/").st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def _find_names(request: Request, answer: Answer) -> None:
    matches = _name_test(request)
    included = any_test(request.include)
    if request.after is None and matches(request.root_name):
        answer.add(_name(b"", raw(request.shown_root)))
    shown = raw(request.shown)
    # What the caller has already: an entry comes up again when it is a place's beginning.
    last = raw(request.after[0]) if request.after else b""
    for path, name, entry in walk(request):
        text = os.fsdecode(name)
        if not matches(text) or path == last:
            continue
        if included and not (included(text) or entry.is_dir(follow_symlinks=False)):
            continue
        answer.add(_name(path, shown + path))


def _name_test(request: Request) -> Test:
    if request.regex:
        flags = re.IGNORECASE if request.ignore_case else 0
        return re.compile(request.pattern, flags).search
    return name_test(request.pattern, ignore_case=request.ignore_case)


def _name(path: bytes, told: bytes) -> Block:
    text = encode_basestring(told.decode("utf-8", "replace"))
    return Block(path, (0,), text.encode(), 0)

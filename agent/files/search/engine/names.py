"""Finds names: entries whose base name matches."""

import os
from _collections_abc import Sequence
from _json import encode_basestring

from agent.files.search.engine.answer import Answer, Block, LateError
from agent.files.search.engine.globs import RawTest, any_test, name_test, raw_test
from agent.files.search.engine.request import Request, raw
from agent.files.search.engine.walking import walk

GROUP_NAMES = 1024
"""Names turned into JSON at a time."""
_SEPARATOR = "\x7f"
"""Stands between paths while they are escaped, because it is not."""


class Names:
    """One search.

    Args:
        request: What is searched for.
        answer: Where the paths go.

    Raises:
        InvalidError: The expression is none.
    """

    def __init__(self, request: Request, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self._shown = raw(request.shown)
        self._matches = _name_test(request)
        self._included = any_test(request.include)
        self._group = min(request.max_results or GROUP_NAMES, GROUP_NAMES)

    def find(self) -> None:
        """Find the entries, and add them to the answer.

        Raises:
            LateError: The time is up.
            FullError: The answer is.
        """
        request = self._request
        if request.after is None and self._root_matches():
            self._answer.add(_block(b"", raw(request.shown_root)))
        # What the caller has: an entry comes up again when it is a place's beginning.
        last = raw(request.after[0]) if request.after else b""
        found: list[bytes] = []
        try:
            for path, name, entry in walk(request, self._matches):
                if not self._matches(name) or path == last:
                    continue
                if not self._is_included(name, entry):
                    continue
                found.append(path)
                if len(found) == self._group:
                    # What is being added is not added again when it is interrupted.
                    adding, found = found, []
                    self._add(adding)
        except LateError:
            self._add(found)
            raise
        self._add(found)

    def _root_matches(self) -> bool:
        name = self._request.root_name
        if name == "/" and not self._request.regex:
            # The one name with a slash, which the quick tests know nothing of.
            test = name_test(
                self._request.pattern, ignore_case=self._request.ignore_case
            )
            return bool(test(name))
        return bool(self._matches(raw(name)))

    def _is_included(self, name: bytes, entry: "os.DirEntry[bytes]") -> bool:
        if self._included is None or self._included(name):
            return True
        return entry.is_dir(follow_symlinks=False)

    def _add(self, paths: Sequence[bytes]) -> None:
        if not paths:
            return
        text = self._json(paths)
        if text and self._answer.fits(len(paths), len(text)):
            self._answer.add_all(text, len(paths), (paths[-1], 0))
            return
        for path in paths:
            self._answer.add(_block(path, self._shown + path))

    def _json(self, paths: Sequence[bytes]) -> bytes:
        """Return paths as JSON strings with commas between, escaped all at once.

        Nothing when that cannot be done.
        """
        joined = b"\0".join(paths).decode("utf-8", "replace")
        if _SEPARATOR in joined:
            return b""
        inside = encode_basestring(joined.replace("\0", _SEPARATOR))[1:-1]
        opening = encode_basestring(self._shown.decode("utf-8", "replace"))[:-1]
        middle = inside.replace(_SEPARATOR, f'",{opening}')
        return f'{opening}{middle}"'.encode()


def _name_test(request: Request) -> RawTest:
    if not request.regex:
        return raw_test(request.pattern, ignore_case=request.ignore_case)
    # Only here, for the time that it takes.
    from agent.files.search.engine.expressions import expression  # noqa: PLC0415

    search = expression(request.pattern, ignore_case=request.ignore_case).search
    return lambda name: search(os.fsdecode(name))


def _block(path: bytes, told: bytes) -> Block:
    text = encode_basestring(told.decode("utf-8", "replace"))
    return Block(path, (0,), text.encode(), 0)

"""Which types of events a client wants to hear of."""

import re
from fnmatch import translate
from functools import lru_cache

from agent.errors import InvalidRequestError

GLOBS_MAX = 64
GLOB_MAX_CHARS = 64
REMEMBERED = 1024
"""Types of which it is known whether they are wanted; there are a few dozen."""

_GLOB = re.compile(r"[A-Za-z0-9_.*?-]+")


class Choice:
    """A choice of types.

    Args:
        globs: With commas between; `*` stands for anything, dots too. Empty: all.

    Raises:
        InvalidRequestError: They are no globs of types.
    """

    def __init__(self, globs: str) -> None:
        given = [each for each in map(str.strip, globs.split(",")) if each]
        if len(given) > GLOBS_MAX:
            raise InvalidRequestError(f"types: more than {GLOBS_MAX} globs")
        for each in given:
            if len(each) > GLOB_MAX_CHARS or not _GLOB.fullmatch(each):
                raise InvalidRequestError(
                    "types: globs of dotted words, with commas between"
                )
        self._pattern = re.compile("|".join(map(translate, given)))
        self.is_all = not given
        self.takes = lru_cache(REMEMBERED)(self._takes)
        """Tell whether a type is wanted."""

    def _takes(self, kind: str) -> bool:
        return self.is_all or self._pattern.match(kind) is not None

"""Holds an upload to the version of the file that the client knows (RFC 9110 §13)."""

import os
from collections.abc import Mapping

from agent.errors import PreconditionError
from agent.files.content import Content
from agent.files.ranges import Version

_NAMES = ("If-Match", "If-None-Match", "If-Unmodified-Since")


class Conditions:
    """What has to be true of a file before it is replaced.

    Args:
        headers: The request's; their names in any case.

    Attributes:
        given: Whether there is any condition at all.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name: headers[name] for name in _NAMES if name in headers}
        self.given = bool(self._headers)

    def check(self, found: os.stat_result | None) -> None:
        """Check the file whose status is `found`; None: there is none.

        Raises:
            PreconditionError: A condition does not hold.
        """
        if found is None:
            if "If-Match" in self._headers:
                raise PreconditionError("the file is not there")
        elif Version(Content(-1, found)).is_fresh(self._headers):
            raise PreconditionError("the file is there already")

"""The expressions of callers, which only this process tries, and only for a while."""

import re

from agent.files.search.engine.answer import InvalidError


def expression(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    """Return the expression.

    Raises:
        InvalidError: It is none; says why.
    """
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidError(str(error)) from error

"""The agent's own log: one JSON object a line, with every live secret taken out.

What is logged of a request is decided in `dispatch.py`; the filter here is the second
fence, for what a library or a traceback may quote.
"""

import base64
import json
import logging
import re
import sys
from datetime import UTC, datetime
from urllib.parse import quote

from agent.settings import MIB, Settings

HIDDEN = "[hidden]"
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_CREDENTIAL = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
_CREDENTIAL_WORDS = ("bearer", "basic")


class Redactor:
    """Takes secrets out of text: live values in every spelling, userinfo, bearer words."""

    def __init__(self, *secrets: str) -> None:
        spellings: set[str] = set()
        for secret in filter(None, secrets):
            spellings |= {
                secret,
                quote(secret, safe=""),
                base64.b64encode(secret.encode()).decode(),
            }
        # The longest first, lest a part of a longer spelling stay behind.
        self._spellings = sorted(spellings, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return `text` without secrets."""
        for spelling in self._spellings:
            text = text.replace(spelling, HIDDEN)
        # Few lines have either, and to look for a word costs a tenth of the pattern.
        if "://" in text:
            text = _USERINFO.sub(HIDDEN, text)
        lower = text.lower()
        if any(word in lower for word in _CREDENTIAL_WORDS):
            text = _CREDENTIAL.sub(lambda found: f"{found[1]} {HIDDEN}", text)
        return text


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        facts = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return self._redactor.clean(json.dumps(facts, default=str))


def set_up_log(settings: Settings) -> None:
    """Send the agent's log to the file or standard error that `settings` name.

    A log file that cannot be written is never fatal: the line is dropped, because a full
    disk must not take the agent down.
    """
    handler: logging.Handler
    if settings.log_file:
        # Imported here, because it brings pickle and most agents log to stderr.
        from logging.handlers import RotatingFileHandler  # noqa: PLC0415

        handler = RotatingFileHandler(
            settings.log_file,
            maxBytes=settings.log_file_max_size_mib * MIB,
            backupCount=settings.log_file_max_backups,
            delay=True,
        )
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(Redactor(settings.token, settings.signing_key)))
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("agent").setLevel(settings.log_level.upper())

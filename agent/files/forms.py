"""Reads multipart forms as they arrive: bytes in, events out, nothing kept.

The parser is python-multipart's push parser, which has no quadratic cases. RFC 7578; of
the headers of a part only the form's field name counts.
"""

import re

import msgspec

from agent.errors import InvalidRequestError

HEADER_MAX_BYTES = 64 * 1024
"""One header line of a part; a file name of 4 KiB may come percent-encoded."""
MAX_HEADERS = 32
"""Headers of one part."""
NAME_MAX_CHARACTERS = 256
"""A field's name; longer ones are no field of ours."""

# Patterns are compiled when first used, not when the agent starts.
_PARAMETER = (
    r';\s*(?P<key>[^\s=;"]+)\s*=\s*'
    r'(?s:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^;"]*))'
)


class PartBegin(msgspec.Struct, frozen=True):
    """A part begins; `name` is its field."""

    name: str


class Piece(msgspec.Struct, frozen=True):
    """More of the current part's content."""

    data: memoryview


class PartEnd(msgspec.Struct, frozen=True):
    """The current part is whole."""


Event = PartBegin | Piece | PartEnd


class Form:
    """One form being read.

    Args:
        boundary: What separates its parts.
    """

    def __init__(self, boundary: bytes) -> None:
        # Imported here, because it costs 25 ms and most agents never need it.
        from python_multipart import MultipartParser  # noqa: PLC0415
        from python_multipart.exceptions import FormParserError  # noqa: PLC0415

        self._ended = False
        self._parse_error = FormParserError
        self._broken = ""
        self._events: list[Event] = []
        self._field = bytearray()
        self._value = bytearray()
        self._name = ""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=HEADER_MAX_BYTES,
            )
        except FormParserError as error:
            raise InvalidRequestError(f"malformed multipart form: {error}") from error

    def feed(self, data: bytes) -> list[Event]:
        """Take more of the body and return what it brought.

        Raises:
            InvalidRequestError: What came before is no multipart form.
        """
        self._check()
        self._events = []
        try:
            self._parser.write(data)
        except self._parse_error as error:
            # Told by the next call: what came before this spot is still good.
            self._broken = str(error)
        return self._events

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            InvalidRequestError: It is no multipart form, or ends too early.
        """
        self._check()
        if not self._ended:
            raise InvalidRequestError("malformed multipart form: it ends too early")

    def _check(self) -> None:
        if self._broken:
            raise InvalidRequestError(f"malformed multipart form: {self._broken}")

    def _on_part_begin(self) -> None:
        self._name = ""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._name = field_name(self._value.decode("latin-1"))
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._events.append(PartBegin(self._name))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(Piece(memoryview(data)[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(PartEnd())

    def _on_end(self) -> None:
        self._ended = True


def field_name(value: str) -> str:
    """Return the `name` parameter of a Content-Disposition value, or an empty string."""
    for match in re.finditer(_PARAMETER, value):
        if match["key"].lower() == "name":
            text = match["quoted"]
            name = match["token"] if text is None else re.sub(r"\\(.)", r"\1", text)
            name = name.encode("latin-1").decode("utf-8", "replace").strip()
            return name if len(name) <= NAME_MAX_CHARACTERS else ""
    return ""


def form_boundary(content_type: str) -> bytes | None:
    """Return the boundary of a multipart form; None when the body is something else.

    Raises:
        InvalidRequestError: A multipart form without a boundary.
    """
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    from python_multipart.multipart import parse_options_header  # noqa: PLC0415

    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise InvalidRequestError("malformed multipart form: it has no boundary")
    return options[b"boundary"]

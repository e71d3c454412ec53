"""Makes charts of what code wrote, whatever it wrote.

Two ways lead here: the private pipe of our own program in the sandbox's Python, and lines
that code prints itself, with the marker that older clients use. Neither is trusted: the
clients refuse a whole answer over one null in a list of numbers. So each field is taken
if it has its type, and left out if it has not.
"""

import contextlib
import json
import math
import struct
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from agent.process.coderun.models import Chart, ChartElement, Drawn
from agent.wire import UNSET

FRAME = struct.Struct(">8sHB")
"""The record's name, the size of the piece that follows, whether it is the last."""

D = TypeVar("D", bound=Drawn)

STRICT_ELEMENT = frozenset(
    {*ChartElement.__struct_fields__}
    - {"autopct", "elements"}
    - {f"{axis}_{name}" for axis in "xy" for name in ("ticks", "tick_labels", "scale")}
)
"""What an element had from the first version on (contract 30 §6.5)."""


def piped_charts(control: bytes) -> Iterator[Chart]:
    """Yield the charts that came by the private pipe, those that came whole.

    Threads and forked children of the code write at once, a piece at a time.
    """
    begun: dict[bytes, bytearray] = {}
    place = 0
    while len(control) - place > FRAME.size:
        name, size, last = FRAME.unpack_from(control, place)
        place += FRAME.size
        begun.setdefault(name, bytearray()).extend(control[place : place + size])
        place += size
        if last and place <= len(control):
            chart = chart_of(_parsed(begun.pop(name)))
            if chart is not None:
                yield chart


def printed_chart(artifact: bytes) -> Chart | None:
    """Return the chart of what follows the marker in a printed line, if it is one."""
    value = _parsed(artifact)
    if not isinstance(value, dict) or value.get("type") != "chart":
        return None
    return chart_of(value.get("value"))


def chart_of(value: object) -> Chart | None:
    """Return a chart with all that is right about `value`, or None if it is no chart."""
    try:
        cleaned = _cleaned(value)
        return _converted(cleaned, Chart) if isinstance(cleaned, dict) else None
    except RecursionError:
        return None


def strict(charts: Iterable[Chart]) -> list[Chart]:
    """Return charts without the fields that a client of old does not know."""

    def without(element: ChartElement) -> ChartElement:
        extra = set(ChartElement.__struct_fields__) - STRICT_ELEMENT
        return msgspec.structs.replace(element, **dict.fromkeys(extra, UNSET))

    return [
        msgspec.structs.replace(
            chart, elements=[without(each) for each in chart.elements or ()]
        )
        for chart in charts
    ]


def _parsed(text: bytes | bytearray) -> object:
    try:
        # Unlike msgspec it takes NaN, which Python writes and code prints.
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cleaned(value: object) -> object:
    """Return plain data without what JSON has no form for, or None when it is that.

    A point of which one number is missing goes as a whole; everything else goes alone.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        pairs = [(each, _cleaned(each)) for each in value]
        return [after for before, after in pairs if _is_whole(before, after)]
    if isinstance(value, dict):
        named = {name: _cleaned(each) for name, each in value.items()}
        return {name: each for name, each in named.items() if each is not None}
    return value


def _is_whole(before: object, after: object) -> bool:
    """Tell whether a member of a list is left, and a list with all that it had."""
    if isinstance(before, list):
        return isinstance(after, list) and len(after) == len(before)
    return after is not None


def _converted(value: dict[str, object], shape: type[D]) -> D:
    """Return `value` as `shape`, with the fields that have their types."""
    taken: dict[str, object] = {}
    for field in msgspec.structs.fields(shape):
        found = value.get(field.name)
        if field.name == "elements" and isinstance(found, list):
            members = [each for each in found if isinstance(each, dict)]
            taken["elements"] = [_converted(each, ChartElement) for each in members]
        elif field.name == "value" and type(found) in {int, float}:
            # What older wrappers print; clients want a text.
            taken["value"] = str(found)
        elif found is not None:
            with contextlib.suppress(msgspec.ValidationError):
                taken[field.name] = msgspec.convert(found, field.type)
    return shape(**taken)  # type: ignore[arg-type] # each was converted to its type

"""Makes of what servers answer the strict shapes that every client reads (contract 40 §9).

Servers differ: lists or objects, texts or markup, flat or nested symbols, null for nothing.
Clients lose a whole answer over one member of a wrong type. So everything is looked at,
and what cannot be told is left out. No I/O; long answers are mapped in a thread.
"""

import re
from collections.abc import Iterator

from agent.lsp.models import (
    CompletionItem,
    CompletionList,
    Location,
    LspSymbol,
    Markup,
    Position,
    Range,
)
from agent.lsp.places import canonical
from agent.wire import UNSET, UnsetType, printable

Json = dict[str, object]

NOWHERE = Range(start=Position(line=0, character=0), end=Position(line=0, character=0))
SYMBOL_KINDS = range(1, 27)
ITEM_KINDS = range(1, 26)
VARIABLE = 13
"""The kind of a symbol whose own kind nobody knows."""
DEPTH_MAX = 64
"""Of nested symbols."""

_SNIPPET = 2
_PLACEHOLDER = re.compile(
    r"(?<!\\)(?:\$\{\d+:([^{}$]*)\}|\$\{\d+\|([^,|}]*)[^}]*\}|\$\{\d+\}|\$\d+)"
)


def completion_list(given: object) -> CompletionList:
    """Return a completion's answer."""
    incomplete = False
    if isinstance(given, dict):
        incomplete = given.get("isIncomplete") is True
        given = given.get("items")
    items = given if isinstance(given, list) else []
    found = [item for each in items if (item := completion_item(each)) is not None]
    return CompletionList(is_incomplete=incomplete, items=found)


def completion_item(given: object) -> CompletionItem | None:
    """Return one item, or None when it has no label."""
    if not isinstance(given, dict):
        return None
    label = given.get("label")
    if not isinstance(label, str):
        return None
    return CompletionItem(
        label=label,
        kind=_kind(given.get("kind")),
        detail=_detail(given),
        documentation=markup(given.get("documentation")),
        sort_text=_text(given.get("sortText")),
        filter_text=_text(given.get("filterText")),
        insert_text=_insert_text(given),
    )


def _kind(given: object) -> int | UnsetType:
    number = whole(given)
    return number if number is not None and number in ITEM_KINDS else UNSET


def _text(given: object) -> str | UnsetType:
    return given if isinstance(given, str) else UNSET


def _detail(item: Json) -> str | UnsetType:
    detail = item.get("detail")
    if isinstance(detail, str):
        return detail
    labels = item.get("labelDetails")
    if not isinstance(labels, dict):
        return UNSET
    parts = (labels.get("detail"), labels.get("description"))
    return " ".join(each.strip() for each in parts if isinstance(each, str)) or UNSET


def _insert_text(item: Json) -> str | UnsetType:
    edit = item.get("textEdit")
    text = item.get("insertText")
    if not isinstance(text, str):
        text = edit.get("newText") if isinstance(edit, dict) else None
    if not isinstance(text, str):
        return UNSET
    if item.get("insertTextFormat") == _SNIPPET:
        return without_placeholders(text)
    return text


def without_placeholders(snippet: str) -> str:
    """Return a snippet's text as it stands before anything is filled in."""
    previous = None
    while previous != snippet:
        # From the innermost outwards.
        previous = snippet
        snippet = _PLACEHOLDER.sub(lambda m: m[1] or m[2] or "", snippet)
    return re.sub(r"\\([$}\\])", r"\1", snippet)


def markup(given: object) -> Markup | UnsetType:
    """Return a documentation, which clients take as an object only."""
    if isinstance(given, str):
        return Markup(kind="plaintext", value=given)
    if isinstance(given, dict) and isinstance(given.get("value"), str):
        kind = "plaintext" if given.get("kind") == "plaintext" else "markdown"
        value = str(given["value"])
        if isinstance(language := given.get("language"), str):
            value = f"```{language}\n{value}\n```"
        return Markup(kind=kind, value=value)
    return UNSET


def symbols(given: object, uri: str = "") -> list[LspSymbol]:
    """Return symbols in the order of the answer, nested ones after their parents.

    Args:
        given: The answer.
        uri: The document that it is about, if it is about one.
    """
    return list(_symbols(given, uri, DEPTH_MAX))


def _symbols(given: object, uri: str, depth: int) -> Iterator[LspSymbol]:
    for each in given if isinstance(given, list) else []:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            continue
        kind = whole(each.get("kind"))
        yield LspSymbol(
            name=str(each["name"]),
            kind=kind if kind in SYMBOL_KINDS and kind is not None else VARIABLE,
            location=_symbol_location(each, uri),
        )
        if depth and each.get("children"):
            yield from _symbols(each["children"], uri, depth - 1)


def _symbol_location(symbol: Json, uri: str) -> Location:
    place = symbol.get("location")
    if isinstance(place, dict):
        own = place.get("uri")
        return Location(
            uri=_uri(own) if isinstance(own, str) else uri,
            range=range_of(place.get("range")) or NOWHERE,
        )
    return Location(uri=uri, range=range_of(symbol.get("range")) or NOWHERE)


def locations(given: object) -> list[Location]:
    """Return places in documents, of links their targets."""
    items = given if isinstance(given, list) else [given]
    found = []
    for each in items:
        if not isinstance(each, dict):
            continue
        uri = each.get("uri") or each.get("targetUri")
        place = (
            each.get("range")
            or each.get("targetSelectionRange")
            or each.get("targetRange")
        )
        if isinstance(uri, str) and (where := range_of(place)) is not None:
            found.append(Location(uri=_uri(uri), range=where))
    return found


def range_of(given: object) -> Range | None:
    """Return a range, or None when it is none."""
    if not isinstance(given, dict):
        return None
    start, end = _position(given.get("start")), _position(given.get("end"))
    return None if start is None or end is None else Range(start=start, end=end)


def _position(given: object) -> Position | None:
    if not isinstance(given, dict):
        return None
    line, character = whole(given.get("line")), whole(given.get("character"))
    if line is None or character is None:
        return None
    return Position(line=line, character=character)


def whole(given: object) -> int | None:
    """Return a whole number that is not negative, or None."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    # NaN is less than nothing, too.
    if not 0 <= given < 2**53 or given != int(given):
        return None
    return int(given)


def _uri(uri: str) -> str:
    return printable(canonical(uri))

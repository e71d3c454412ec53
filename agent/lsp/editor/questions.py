"""Questions about a place in a document."""

from agent.lsp.editor.models import (
    CallHierarchy,
    CallItem,
    Hover,
    Parameter,
    Signature,
    SignatureHelp,
)
from agent.lsp.messages import plain
from agent.lsp.models import Location, LspPosition, Markup
from agent.lsp.queries import mapped
from agent.lsp.registry import Subject
from agent.lsp.results import (
    NOWHERE,
    VARIABLE,
    locations,
    markup,
    range_of,
    whole,
)

CALLS_MAX = 16
"""Items of one place whose calls are asked for; overloads, mostly."""


async def ask_at(
    subject: Subject, method: str, position: LspPosition, **more: object
) -> object:
    """Return a server's plain answer about a place.

    Raises:
        AgentError: As `LanguageServer.ask_of`.
    """
    raw = await subject.server.ask_of(
        f"textDocument/{method}",
        subject.path,
        subject.language,
        {"position": position.plain(), **more},
    )
    return await mapped(subject.server.ground.threads, raw, lambda given: given)


async def hover(subject: Subject, position: LspPosition) -> Hover:
    """Return what there is to know of a place."""
    given = await ask_at(subject, "hover", position)
    if not isinstance(given, dict):
        return Hover(contents=None)
    contents = given.get("contents")
    parts = contents if isinstance(contents, list) else [contents]
    found = [each for part in parts if isinstance(each := markup(part), Markup)]
    if not found:
        return Hover(contents=None)
    # Of a list, which is an old form, all that is said.
    kind = "plaintext" if all(e.kind == "plaintext" for e in found) else "markdown"
    text = "\n\n".join(each.value for each in found)
    return Hover(
        contents=Markup(kind=kind, value=text), range=range_of(given.get("range"))
    )


async def places(
    subject: Subject, method: str, position: LspPosition, **more: object
) -> list[Location]:
    """Return the places that a server names for a place."""
    return locations(await ask_at(subject, method, position, **more))


async def signature_help(subject: Subject, position: LspPosition) -> SignatureHelp:
    """Return the ways to call what is called at a place."""
    given = await ask_at(subject, "signatureHelp", position)
    told = given if isinstance(given, dict) else {}
    listed = told.get("signatures")
    signatures = [
        _signature(each)
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
    ]
    return SignatureHelp(
        signatures=signatures,
        active_signature=whole(told.get("activeSignature")) or 0,
        active_parameter=whole(told.get("activeParameter")) or 0,
    )


def _signature(given: dict[str, object]) -> Signature:
    label = str(given.get("label", ""))
    listed = given.get("parameters")
    parameters = [
        Parameter(
            label=_parameter_label(each.get("label"), label),
            documentation=markup(each.get("documentation")) or None,
        )
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
    ]
    return Signature(
        label=label,
        documentation=markup(given.get("documentation")) or None,
        parameters=parameters,
    )


def _parameter_label(given: object, label: str) -> str:
    """Return a parameter's name, which may be told as a part of the signature's."""
    if isinstance(given, list) and len(given) == 2:
        start, end = whole(given[0]), whole(given[1])
        return label[start or 0 : end or 0]
    return str(given)


async def call_hierarchy(subject: Subject, position: LspPosition) -> CallHierarchy:
    """Return who calls the function at a place, and whom it calls."""
    items = await ask_at(subject, "prepareCallHierarchy", position)
    found = [each for each in items if isinstance(each, dict)] if items else []  # type: ignore[attr-defined] # a list, if anything
    incoming: list[CallItem] = []
    outgoing: list[CallItem] = []
    for each in found[:CALLS_MAX]:
        for way, end, into in (
            ("incomingCalls", "from", incoming),
            ("outgoingCalls", "to", outgoing),
        ):
            raw = await subject.server.ask(f"callHierarchy/{way}", {"item": each})
            into.extend(_calls(plain(raw), end))
    name = str(found[0].get("name", "")) if found else None
    return CallHierarchy(name=name, incoming=incoming, outgoing=outgoing)


def _calls(given: object, end: str) -> list[CallItem]:
    found = []
    for each in given if isinstance(given, list) else []:
        item = each.get(end) if isinstance(each, dict) else None
        if not isinstance(item, dict):
            continue
        named = {"uri": item.get("uri"), "range": item.get("selectionRange")}
        place = locations(named) or [
            Location(uri=str(item.get("uri", "")), range=NOWHERE)
        ]
        ranges = each.get("fromRanges")
        found.append(
            CallItem(
                name=str(item.get("name", "")),
                kind=whole(item.get("kind")) or VARIABLE,
                location=place[0],
                ranges=[
                    where
                    for one in (ranges if isinstance(ranges, list) else [])
                    if (where := range_of(one)) is not None
                ],
            )
        )
    return found

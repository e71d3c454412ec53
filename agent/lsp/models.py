"""What the routes of language servers take and send (contract 40 §2)."""

from typing import Annotated

import msgspec

from agent import wire
from agent.errors import InvalidBodyError
from agent.wire import UNSET, UnsetType

Text = Annotated[str, msgspec.Meta(min_length=1)]
Place = Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0)]
"""A number of lines or characters; the first clients send `3.0`."""


class LspServerRequest(wire.Model, frozen=True, kw_only=True):
    """A language, and the project it is spoken in."""

    language_id: Text
    path_to_project: Text


class LspDocumentRequest(LspServerRequest, frozen=True, kw_only=True):
    """A document of a project."""

    uri: Text


class LspPosition(wire.Model, frozen=True, kw_only=True):
    """A place in a document, from zero; `character` counts UTF-16 code units."""

    line: Place
    character: Place

    def plain(self) -> dict[str, int]:
        """Return it as a server takes it.

        Raises:
            InvalidBodyError: A number is not whole.
        """
        if self.line != int(self.line) or self.character != int(self.character):
            raise InvalidBodyError("position: line and character are whole numbers")
        return {"line": int(self.line), "character": int(self.character)}


class CompletionContext(wire.Model, frozen=True, kw_only=True):
    """How a completion was asked for: 1 by hand, 2 by a character, 3 again."""

    trigger_kind: int | float
    trigger_character: str | None = None

    def plain(self) -> dict[str, object]:
        """Return it as a server takes it."""
        found: dict[str, object] = {"triggerKind": int(self.trigger_kind)}
        if self.trigger_character is not None:
            found["triggerCharacter"] = self.trigger_character
        return found


class LspCompletionParams(LspDocumentRequest, frozen=True, kw_only=True):
    """Where a completion is wanted."""

    position: LspPosition
    context: CompletionContext | None = None


class Position(wire.Model, frozen=True, kw_only=True):
    """A place in a document, as it is sent."""

    line: int
    character: int


class Range(wire.Model, frozen=True, kw_only=True):
    """What lies between two places, the second left out."""

    start: Position
    end: Position


class Location(wire.Model, frozen=True, kw_only=True):
    """A range of a document."""

    uri: str
    range: Range


class LspSymbol(wire.Model, frozen=True, kw_only=True):
    """A name that is defined somewhere."""

    name: str
    kind: int
    location: Location


class Markup(wire.Model, frozen=True, kw_only=True):
    """Text with its format, `markdown` or `plaintext`."""

    kind: str
    value: str


class CompletionItem(wire.Model, frozen=True, kw_only=True, omit_defaults=True):
    """What could stand at a place."""

    label: str
    kind: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    documentation: Markup | UnsetType = UNSET
    sort_text: str | UnsetType = UNSET
    filter_text: str | UnsetType = UNSET
    insert_text: str | UnsetType = UNSET


class CompletionList(wire.Model, frozen=True, kw_only=True):
    """What could stand at a place, and whether there is more."""

    is_incomplete: bool
    items: list[CompletionItem]

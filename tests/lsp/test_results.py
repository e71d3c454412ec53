"""Whatever servers answer, clients get the strict shapes that they read."""

import msgspec
import pytest
from hypothesis import given, strategies as st

from agent.lsp.messages import UnreadableError, plain, read
from agent.lsp.models import CompletionList, LspSymbol
from agent.lsp.results import (
    completion_list,
    locations,
    symbols,
    without_placeholders,
)
from agent.wire import encode

PLACE = {"start": {"line": 1, "character": 2}, "end": {"line": 1, "character": 5}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = st.dictionaries(
    st.sampled_from(
        ["label", "kind", "documentation", "textEdit", "name", "location", "range"]
    ),
    JSON,
)


def told(given: object) -> object:
    return msgspec.json.decode(encode(completion_list(given)))


@pytest.mark.parametrize("nothing", [None, [], {}, {"items": None}, "x", 7])
def test_no_completions_are_an_empty_list(nothing: object) -> None:
    assert told(nothing) == {"isIncomplete": False, "items": []}


def test_an_array_is_a_complete_list_and_a_list_keeps_its_word() -> None:
    assert told([{"label": "a"}]) == {"isIncomplete": False, "items": [{"label": "a"}]}
    assert told({"isIncomplete": True, "items": [{"label": "a"}]}) == {
        "isIncomplete": True,
        "items": [{"label": "a"}],
    }


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        (
            {"documentation": "x"},
            {"documentation": {"kind": "plaintext", "value": "x"}},
        ),
        (
            {"documentation": {"kind": "markdown", "value": "*x*"}},
            {"documentation": {"kind": "markdown", "value": "*x*"}},
        ),
        ({"documentation": None, "detail": None, "kind": None}, {}),
        ({"documentation": {"kind": "markdown"}}, {}),
        ({"kind": 3.0}, {"kind": 3}),
        ({"kind": 99}, {}),
        ({"kind": True}, {}),
        ({"textEdit": {"newText": "t", "range": PLACE}}, {"insertText": "t"}),
        ({"textEdit": {"newText": "t"}, "insertText": "i"}, {"insertText": "i"}),
        ({"labelDetails": {"detail": "(x)", "description": "m"}}, {"detail": "(x) m"}),
        ({"labelDetails": {"detail": "(x)"}, "detail": "d"}, {"detail": "d"}),
        (
            {"insertText": "f(${1:a}, $2)$0", "insertTextFormat": 2},
            {"insertText": "f(a, )"},
        ),
        ({"data": {"x": 1}, "score": 1, "tags": [1], "command": {}}, {}),
        ({"sortText": "s", "filterText": "f"}, {"sortText": "s", "filterText": "f"}),
    ],
)
def test_an_item_holds_what_every_client_reads_and_no_more(
    item: dict[str, object], wanted: dict[str, object]
) -> None:
    assert told([{"label": "a", **item}]) == {
        "isIncomplete": False,
        "items": [{"label": "a", **wanted}],
    }


@given(st.lists(MEMBERS | JSON, max_size=4))
def test_no_answer_of_a_server_breaks_a_client(answer: list[object]) -> None:
    msgspec.json.decode(encode(completion_list(answer)), type=CompletionList)
    msgspec.json.decode(encode(symbols(answer, "file:///a")), type=list[LspSymbol])
    locations(answer)


def test_nested_symbols_are_flat_in_the_order_of_the_document() -> None:
    tree = [
        {
            "name": "A",
            "kind": 5,
            "range": PLACE,
            "selectionRange": PLACE,
            "children": [{"name": "b", "kind": 6, "range": PLACE}],
        },
        {"name": "c", "kind": 12, "range": PLACE},
    ]

    found = symbols(tree, "file:///x.py")

    assert [each.name for each in found] == ["A", "b", "c"]
    assert {each.location.uri for each in found} == {"file:///x.py"}


def test_a_symbol_without_a_range_or_a_kind_is_told_all_the_same() -> None:
    [found] = symbols([{"name": "A", "location": {"uri": "file:///x%20y.py"}}])

    assert found.kind == 13
    assert found.location.uri == "file:///x%20y.py"
    assert (found.location.range.start.line, found.location.range.end.line) == (0, 0)


def test_links_are_told_as_their_targets() -> None:
    link = {
        "targetUri": "file:///x",
        "targetRange": PLACE,
        "targetSelectionRange": PLACE,
    }

    assert [each.uri for each in locations([link])] == ["file:///x"]
    assert locations(None) == []


def test_placeholders_within_placeholders_leave_their_text() -> None:
    assert without_placeholders("${1:a ${2:b}} ${3|x,y|} \\$c $0") == "a b x $c "


def test_what_is_no_unicode_is_replaced_and_loses_nothing_else() -> None:
    message = read(b'{"id":1,"result":[{"label":"a\xff"},{"label":"\\ud800b"}]}')

    assert plain(message.result) == [
        {"label": "a\ufffd"},
        {"label": "\ufffd\ufffd\ufffdb"},
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"7", b'{"id":{}}', b"{}x"])
def test_what_is_no_message_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        read(body)

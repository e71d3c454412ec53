"""What code wrote as a chart becomes exactly what the clients take, or is left out."""

import json
import math
import os

import pytest
from hypothesis import given, strategies as st

from agent import wire
from agent.process.coderun.charts import (
    FRAME,
    chart_of,
    piped_charts,
    printed_chart,
    strict,
)


def told(value: object) -> object:
    """Return the chart as a client reads it, or None."""
    chart = chart_of(value)
    return None if chart is None else json.loads(wire.encode(chart))


def frames(value: object, size: int = 10, name: bytes | None = None) -> list[bytes]:
    """Return the frames of a record, cut into pieces of `size`."""
    name = name or os.urandom(8)
    text = json.dumps(value).encode()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [
        FRAME.pack(name, len(each), number == len(pieces) - 1) + each
        for number, each in enumerate(pieces)
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"type": "line", "title": 5}, {"type": "line"}),
        ({"type": "line", "title": None}, {"type": "line"}),
        ({"type": "line", "x_ticks": [1, None, math.nan, math.inf, 2.5]},
         {"type": "line", "x_ticks": [1.0, 2.5]}),
        ({"type": "line", "x_ticks": ["2024-01-01"]}, {"type": "line"}),
        ({"type": "line", "x_ticks": [True]}, {"type": "line"}),
        ({"type": "line", "x_tick_labels": [1]}, {"type": "line"}),
        ({"type": "x", "elements": None}, {"type": "x"}),
        ({"type": "x", "elements": [None, 1, {"label": "a"}]},
         {"type": "x", "elements": [{"label": "a"}]}),
        ({"elements": [{"points": [[1, math.nan], [1, 2], [3, None]]}]},
         {"elements": [{"points": [[1.0, 2.0]]}]}),
        ({"elements": [{"points": [[1]], "label": "a"}]}, {"elements": [{"label": "a"}]}),
        ({"elements": [{"value": 3}, {"value": 2.5}, {"value": "1"}, {"value": True}]},
         {"elements": [{"value": "3"}, {"value": "2.5"}, {"value": "1"}, {}]}),
        ({"elements": [{"min": "1", "max": 2, "median": math.nan}]},
         {"elements": [{"max": 2.0}]}),
        ({"type": "x", "x_ticks": [10**400], "y_ticks": [10**40]},
         {"type": "x", "y_ticks": [1e40]}),
        ({"type": "sankey", "unheard": 1}, {"type": "sankey"}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_left_out_and_the_rest_kept(
    value: object, wanted: object
) -> None:
    assert told(value) == wanted


@pytest.mark.parametrize("value", [None, 1, "x", [], [{}]])
def test_what_is_no_object_is_no_chart(value: object) -> None:
    assert told(value) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{bad",
        b"null",
        b"[]",
        b'{"type":"table","value":{}}',
        b'{"type":"chart"}',
        b'{"type":"chart","value":[]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":"chart","value":' + b'{"elements":[' * 500 + b"]}" * 500 + b"}\xff",
    ],
)
def test_a_printed_line_that_is_no_chart_is_none(line: bytes) -> None:
    assert printed_chart(line) is None


def test_a_printed_chart_with_nan_in_it_is_still_a_chart() -> None:
    line = b'{"type":"chart","value":{"type":"line","x_ticks":[1,NaN]}}'

    chart = printed_chart(line)

    assert chart is not None
    assert json.loads(wire.encode(chart)) == {"type": "line", "x_ticks": [1.0]}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "elements", "points", "x_ticks", "value", "min"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_code_writes_the_answer_has_the_types_that_clients_take(
    value: object,
) -> None:
    chart = chart_of(value)

    if chart is not None:
        # The models themselves are exact, so reading them back is the proof.
        text = wire.encode(chart)
        assert wire.decode(text, type(chart)) == chart
        _no_null(json.loads(text))


def _no_null(value: object) -> None:
    assert value is not None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _no_null(each)


def test_records_that_were_written_at_once_come_whole() -> None:
    first = frames({"type": "line", "title": "a" * 50})
    second = frames({"type": "bar", "title": "b" * 90})
    mixed = [each for pair in zip(first, second, strict=False) for each in pair]
    mixed += second[len(first) :]

    charts = list(piped_charts(b"".join(mixed)))

    assert [each.type for each in charts] == ["line", "bar"]
    assert [len(each.title or "") for each in charts] == [50, 90]


def test_a_record_that_was_cut_is_left_out_and_those_before_it_are_not() -> None:
    whole = b"".join(frames({"type": "line"}))
    other = b"".join(frames({"type": "bar", "title": "b" * 90}))

    for place in range(len(other)):
        charts = list(piped_charts(whole + other[:place]))
        assert [each.type for each in charts] == ["line"]
    assert len(list(piped_charts(whole + other))) == 2


def test_bytes_that_are_no_frames_give_no_charts() -> None:
    assert list(piped_charts(b"hello" * 100)) == []
    assert list(piped_charts(b"")) == []


def test_an_old_strict_client_gets_only_the_fields_that_it_knows() -> None:
    plot = {
        "type": "line",
        "x_label": "x",
        "x_ticks": [1],
        "elements": [{"label": "a"}],
    }
    chart = chart_of(
        {"type": "composite_chart", "elements": [plot, {"angle": 1, "autopct": 2}]}
    )
    assert chart is not None

    (kept,) = strict([chart])

    assert json.loads(wire.encode(kept)) == {
        "type": "composite_chart",
        "elements": [{"type": "line", "x_label": "x"}, {"angle": 1.0}],
    }

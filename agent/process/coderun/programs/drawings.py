"""Reads a figure that was drawn into the numbers of a chart (contract 30 §6.5).

What is on the axes is read from their artists. Boxes, bars that lie, and percentages of
pies are noted while they are made, since the artists that they become no longer tell. Axes of
dates are told in POSIX seconds, each row of boxes or bars with its categories as `x`. What
has no number (NaN, infinity, masked) is left out: it has no form in JSON.
"""

# Any Python from 3.8 on runs this, so annotations that it could not read are quoted.

import datetime as dt
import functools
import math
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from matplotlib import dates
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import (
    BarContainer,
    Container,
    ErrorbarContainer,
    StemContainer,
)
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Wedge

POINTS_MAX = 100_000
"""Points told of one element; of more, every second, third and so on."""

FULL_TURN = 360.0
ALMOST = 1e-9
DAY_S = 86400
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)

LONG = 1e15
"""From here on a float no longer has a place for every whole number."""

Record = Dict[str, object]


class Notes:
    """What was seen while it was drawn.

    Attributes:
        boxes: By axes; those that were cleared away since are among them.
        told: The wedges of pies that show their percentages.
    """

    def __init__(self) -> None:
        self.boxes: WeakKeyDictionary[Axes, List[Box]] = WeakKeyDictionary()
        self.told: WeakSet[Wedge] = WeakSet()


class Box:
    """One box of a box-and-whisker plot."""

    def __init__(
        self,
        statistics: "Dict[str, object]",
        position: float,
        median: Line2D,
        *,
        horizontal: bool,
    ) -> None:
        self.statistics = statistics
        self.position = position
        self.median = median
        self.horizontal = horizontal


class Scale:
    """One axis of a plot: its label, its ticks, and what its numbers mean.

    Args:
        axes: The plot.
        name: `x` or `y`.
    """

    def __init__(self, axes: Axes, name: str) -> None:
        self._axes = axes
        self._name = name
        self._axis = getattr(axes, name + "axis")
        self._period = getattr(axes, "freq", None) if name == "x" else None
        self.is_time = self._period is not None or self._is_dates()
        self.ticks, self.labels = self._marks()

    def _is_dates(self) -> bool:
        axis = self._axis
        converter = (
            axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
        )
        makers = (type(converter), type(axis.get_major_formatter()))
        return isinstance(converter, dates.DateConverter) or any(
            each.__module__ == dates.__name__ for each in makers
        )

    def _marks(self) -> "Tuple[List[float], List[str]]":
        texts = [each.get_text() for each in self._axis.get_ticklabels()]
        places = [float(each) for each in self._axis.get_ticklocs()]
        both = [
            (place, text(label))
            for place, label in zip(places, texts)
            if math.isfinite(place)
        ]
        return [place for place, _ in both], [label for _, label in both]

    @property
    def label(self) -> str:
        """What is written at the axis."""
        return text(self._axis.get_label().get_text())

    @property
    def kind(self) -> str:
        """`datetime`, `categorical`, or the name that matplotlib has for it."""
        if self.is_time:
            return "datetime"
        numbered = [float(each) for each in range(len(self.ticks))]
        if self.has_names and self.ticks == numbered:
            return "categorical"
        return str(self._axis.get_scale())

    @property
    def has_names(self) -> bool:
        """Whether the labels of the ticks say something else than where they are."""
        shown = (label.replace("\N{MINUS SIGN}", "-") for label in self.labels)
        return any(
            label and not same(number_in(label), tick)
            for label, tick in zip(shown, self.ticks)
        )

    def value(self, number: "Optional[float]") -> Optional[float]:
        """Return a place on the axis as its number, or None when it has none."""
        if number is None or not math.isfinite(number):
            return None
        if not self.is_time:
            return float(number)
        try:
            return self._seconds(number)
        except (ArithmeticError, OSError, ValueError):
            return None

    def _seconds(self, number: float) -> float:
        if self._period is None:
            # Counted in days from an epoch that depends on version and settings.
            days = number - float(dates.date2num(EPOCH))
            return round(days * DAY_S, 6)
        # pandas counts such an axis in periods: days, months, quarters.
        period = sys.modules["pandas"].Period
        counted = period(ordinal=math.floor(number), freq=self._period)
        return float(counted.start_time.timestamp())

    def name_of(self, place: float, width: float) -> str:
        """Return what is at a place: the label of its tick, or else the place itself.

        Args:
            place: The middle of what is there.
            width: How wide that is.
        """
        reach = abs(width) / 2
        if self.has_names and not self.is_time:
            # Of several side by side only the middle one is where the tick is.
            reach = max(reach, half_gap(self.ticks))
        marks = zip(self.ticks, self.labels)
        near = [(abs(tick - place), label) for tick, label in marks if label]
        distance, label = min(near, default=(math.inf, ""))
        if distance <= reach + ALMOST:
            return label
        value = self.value(place)
        if value is None or not self.is_time:
            return written(place)
        moment = EPOCH + dt.timedelta(seconds=value)
        return moment.isoformat().replace("T00:00:00+00:00", "").replace("+00:00", "")

    def record(self, name: str) -> Record:
        """Return what a chart says of this axis under the name `x` or `y`."""
        told: Record = {
            name + "_ticks": [
                value for each in self.ticks if (value := self.value(each)) is not None
            ],
            name + "_tick_labels": self.labels,
            name + "_scale": self.kind,
        }
        if self.label:
            told[name + "_label"] = self.label
        return told


class Plot:
    """One pair of axes with what is drawn on it.

    Args:
        axes: The axes.
        notes: What was seen while it was drawn.
    """

    def __init__(self, axes: Axes, notes: Notes) -> None:
        self._axes = axes
        self._notes = notes
        self._x = Scale(axes, "x")
        self._y = Scale(axes, "y")

    def record(self) -> Record:
        """Return the chart of these axes."""
        kind, elements, horizontal = self._content()
        chart: Record = {"type": kind, "elements": elements}
        titles = map(self._axes.get_title, ("center", "left", "right"))
        title = next(filter(None, titles), "")
        if title:
            chart["title"] = text(title)
        if kind != "pie":
            first, second = self._sides(horizontal=horizontal)
            chart.update(first.record("x"))
            chart.update(second.record("y"))
        return chart

    def _content(self) -> "Tuple[str, List[Record], bool]":
        """Return what kind of plot this is, its elements, and whether it lies."""
        readers = {
            "box_and_whisker": self._boxes,
            "pie": self._wedges,
            "bar": self._bars,
            "line": self._lines,
            "scatter": self._scatters,
        }
        for kind, elements_of in readers.items():
            elements, horizontal = elements_of()
            if elements:
                return kind, elements, horizontal
        return "unknown", [], False

    def _boxes(self) -> "Tuple[List[Record], bool]":
        there = set(map(id, self._axes.lines))
        noted = self._notes.boxes.get(self._axes, [])
        boxes = [each for each in noted if id(each.median) in there]
        horizontal = any(each.horizontal for each in boxes)
        scale, values = self._sides(horizontal=horizontal)
        elements = []
        for box in boxes:
            element: Record = {"label": scale.name_of(box.position, 0)}
            for name, statistic in STATISTICS.items():
                value = values.value(number_in(box.statistics.get(statistic)))
                if value is not None:
                    element[name] = value
            outliers = numbers(box.statistics.get("fliers", ()))
            element["outliers"] = finite(map(values.value, outliers))
            elements.append(element)
        return elements, horizontal

    def _sides(self, *, horizontal: bool) -> "Tuple[Scale, Scale]":
        """Return the axis of the names and that of the values."""
        return (self._y, self._x) if horizontal else (self._x, self._y)

    def _wedges(self) -> "Tuple[List[Record], bool]":
        elements = []
        for wedge in self._axes.patches:
            if not isinstance(wedge, Wedge):
                continue
            angle = abs(float(wedge.theta2 - wedge.theta1))
            element = labelled(wedge)
            element["angle"] = angle
            element["radius"] = float(wedge.r)
            if wedge in self._notes.told:
                element["autopct"] = angle / FULL_TURN * 100
            elements.append(element)
        return elements, False

    def _bars(self) -> "Tuple[List[Record], bool]":
        groups = [
            each for each in self._axes.containers if isinstance(each, BarContainer)
        ]
        horizontal = any(lies(each) for each in groups)
        scale, _ = self._sides(horizontal=horizontal)
        elements = []
        for group in groups:
            for bar in group.patches:
                if horizontal:
                    start, width, length = (
                        bar.get_y(),
                        bar.get_height(),
                        bar.get_width(),
                    )
                else:
                    start, width, length = (
                        bar.get_x(),
                        bar.get_width(),
                        bar.get_height(),
                    )
                element = labelled(group, "group")
                element["label"] = scale.name_of(float(start + width / 2), float(width))
                if math.isfinite(length):
                    element["value"] = written(float(length))
                elements.append(element)
        return elements, horizontal

    def _lines(self) -> "Tuple[List[Record], bool]":
        helpers = {
            id(part)
            for container in self._axes.containers
            for part in parts_beside(container)
        }
        elements = []
        for line in self._axes.lines:
            # What spans the axes, as `axhline` does, shows no values.
            own = line.get_transform().contains_branch_seperately(self._axes.transData)
            if id(line) not in helpers and all(own):
                data = line.get_xdata(orig=False), line.get_ydata(orig=False)
                elements.append(self._points(line, *map(numbers, data)))
        return [each for each in elements if each["points"]], False

    def _scatters(self) -> "Tuple[List[Record], bool]":
        elements = []
        for collection in self._axes.collections:
            if isinstance(collection, PathCollection):
                offsets = collection.get_offsets()
                data = numbers(offsets[:, 0]), numbers(offsets[:, 1])
                elements.append(self._points(collection, *data))
        return [each for each in elements if each["points"]], False

    def _points(
        self, artist: Artist, xs: "Sequence[float]", ys: "Sequence[float]"
    ) -> Record:
        step = -(-len(xs) // POINTS_MAX) or 1
        element = labelled(artist)
        pairs = (
            (self._x.value(x), self._y.value(y)) for x, y in zip(xs[::step], ys[::step])
        )
        element["points"] = [
            [x, y] for x, y in pairs if x is not None and y is not None
        ]
        return element


STATISTICS = {
    "min": "whislo",
    "first_quartile": "q1",
    "median": "med",
    "third_quartile": "q3",
    "max": "whishi",
}
"""What the wire calls the statistics, and what matplotlib does."""


def text(value: object) -> str:
    """Return a text that JSON can hold."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def written(number: float) -> str:
    """Return a number as people write it: 3, not 3.0."""
    short = number.is_integer() and abs(number) < LONG
    return str(int(number)) if short else repr(number)


def number_in(value: object) -> Optional[float]:
    """Return what is a number, or reads as one, as a float; None of anything else."""
    try:
        return float(value)  # type: ignore[arg-type] # that is the question
    except (TypeError, ValueError):
        return None


def same(number: "Optional[float]", other: float) -> bool:
    """Tell whether a number that was written short is the other one."""
    return number is not None and math.isclose(number, other, abs_tol=ALMOST)


def numbers(values: object) -> "List[float]":
    """Return an array as plain numbers, NaN where one is masked."""
    array = np.ma.masked_invalid(np.ma.asarray(values, dtype=float))
    filled: List[float] = np.ma.filled(array, math.nan).ravel().tolist()
    return filled


def finite(values: "Iterable[Optional[float]]") -> "List[float]":
    """Return the numbers among the values."""
    return [each for each in values if each is not None]


def labelled(artist: "Artist | Container", name: str = "label") -> Record:
    """Return an element with the label that the code gave, if it gave one."""
    label = text(artist.get_label() or "")
    # matplotlib's own begin so, and are in no legend.
    return {} if not label or label.startswith("_") else {name: label}


def half_gap(places: "Sequence[float]") -> float:
    """Return half of the least distance between neighbours."""
    ordered = sorted(places)
    gaps = [after - before for before, after in zip(ordered, ordered[1:])]
    return min((each for each in gaps if each > 0), default=1.0) / 2


def lies(container: BarContainer) -> bool:
    """Tell whether bars grow to the side."""
    return getattr(container, "orientation", None) == "horizontal"


def parts_beside(container: Container) -> "Iterable[object]":
    """Return the lines that go with a plot and show no values of their own."""
    if isinstance(container, ErrorbarContainer):
        caps: Iterable[object] = container.lines[1]
        return caps
    if isinstance(container, StemContainer):
        return [container.baseline]
    return ()


def watch() -> "Callable[[Figure], Record]":
    """Note boxes, bars and pies from now on; return what reads a figure into its chart."""
    notes = Notes()
    bxp, barh, pie = Axes.bxp, Axes.barh, Axes.pie

    @functools.wraps(bxp)
    def bxp_noted(axes: Axes, bxpstats: Any, *arguments: Any, **named: Any) -> Any:
        statistics = list(bxpstats)
        result = bxp(axes, statistics, *arguments, **named)
        try:
            boxes = boxes_of(statistics, result["medians"], arguments, named)
            notes.boxes.setdefault(axes, []).extend(boxes)
        except Exception:  # noqa: BLE001, S110 - nothing of ours may fail the code
            pass
        return result

    @functools.wraps(barh)
    def barh_noted(axes: Axes, *arguments: Any, **named: Any) -> Any:
        result = barh(axes, *arguments, **named)
        # Before 3.4 the bars themselves do not know.
        result.orientation = "horizontal"
        return result

    @functools.wraps(pie)
    def pie_noted(axes: Axes, *arguments: Any, **named: Any) -> Any:
        result = pie(axes, *arguments, **named)
        try:
            if named.get("autopct") or any(arguments[AUTOPCT:][:1]):
                notes.told.update(result[0])
        except Exception:  # noqa: BLE001, S110 - as above
            pass
        return result

    Axes.bxp, Axes.barh, Axes.pie = bxp_noted, barh_noted, pie_noted
    return functools.partial(read, notes=notes)


AUTOPCT = 4
"""Its place among the arguments of `pie`."""


def boxes_of(
    statistics: "List[Dict[str, object]]",
    medians: "List[Line2D]",
    arguments: "Sequence[Any]",
    named: "Dict[str, Any]",
) -> "List[Box]":
    """Return the boxes that a call of `bxp` made."""
    given = dict(zip(("positions", "widths", "vert"), arguments))
    given.update(named)
    vert, orientation = given.get("vert"), given.get("orientation", "vertical")
    horizontal = orientation == "horizontal" if vert is None else not vert
    positions = given.get("positions")
    if positions is None:
        positions = range(1, len(statistics) + 1)
    return [
        Box(each, float(position), median, horizontal=horizontal)
        for each, position, median in zip(statistics, positions, medians)
    ]


def read(figure: Figure, notes: Notes) -> Record:
    """Return the chart of a figure: of its one plot, or composite when it has more."""
    plots = [each for each in figure.axes if shows_something(each)]
    charts = [chart_of(each, notes) for each in plots]
    heading = getattr(figure, "_suptitle", None)
    title = text(heading.get_text()) if heading is not None else ""
    if len(charts) == 1:
        chart = charts[0]
    elif charts:
        chart = {"type": "composite_chart", "elements": charts}
    else:
        chart = {"type": "unknown", "elements": []}
    if title:
        chart.setdefault("title", title)
    return chart


def shows_something(axes: Axes) -> bool:
    """Tell whether axes hold a plot, and are not the legend of another's colours."""
    if not axes.get_visible() or axes.get_label() == "<colorbar>":
        return False
    return bool(axes.axison or axes.has_data() or axes.patches)


def chart_of(axes: Axes, notes: Notes) -> Record:
    """Return the chart of one plot; of one that cannot be read, that it is there."""
    try:
        return Plot(axes, notes).record()
    except Exception:  # noqa: BLE001 - the other plots of the figure can be
        return {"type": "unknown", "elements": []}

"""The wire shapes of code-run.

The newest clients refuse the whole answer over one field of a wrong type, so the shapes
are exact, and a chart's fields are left out rather than null. Their names are
matplotlib's kind, with underscores.
"""

from typing import Annotated

from msgspec import Meta

from agent import wire
from agent.process.models import Limits, Seconds
from agent.wire import UNSET, UnsetType

Point = Annotated[list[float], Meta(min_length=2)]


class CodeRunRequest(wire.Model, frozen=True, kw_only=True):
    """The body of `/process/code-run`."""

    code: str
    language: str
    """`python`, `javascript` or `typescript`."""
    argv: list[str] | None = None
    envs: dict[str, str] | None = None
    timeout: Seconds | None = None
    limits: Limits | None = None


class Drawn(wire.Model, frozen=True, kw_only=True, rename="lower"):
    """What a chart and a plot within one have in common."""

    type: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    png: str | UnsetType = UNSET
    """The whole figure, in base64."""
    elements: "list[ChartElement] | UnsetType" = UNSET
    x_label: str | UnsetType = UNSET
    y_label: str | UnsetType = UNSET
    x_ticks: list[float] | UnsetType = UNSET
    y_ticks: list[float] | UnsetType = UNSET
    x_tick_labels: list[str] | UnsetType = UNSET
    y_tick_labels: list[str] | UnsetType = UNSET
    x_scale: str | UnsetType = UNSET
    y_scale: str | UnsetType = UNSET


class ChartElement(Drawn, frozen=True, kw_only=True):
    """A line, a bar, a slice, a box; or a whole plot of a composite chart."""

    label: str | UnsetType = UNSET
    points: list[Point] | UnsetType = UNSET
    group: str | UnsetType = UNSET
    value: str | UnsetType = UNSET
    angle: float | UnsetType = UNSET
    radius: float | UnsetType = UNSET
    autopct: float | UnsetType = UNSET
    """Per cent of the pie, when the pie shows it."""
    min: float | UnsetType = UNSET
    first_quartile: float | UnsetType = UNSET
    median: float | UnsetType = UNSET
    third_quartile: float | UnsetType = UNSET
    max: float | UnsetType = UNSET
    outliers: list[float] | UnsetType = UNSET


class Chart(Drawn, frozen=True, kw_only=True):
    """One figure that was shown."""


class Artifacts(wire.Model, frozen=True, kw_only=True):
    """What code made besides its output."""

    charts: list[Chart]


class CodeRunResponse(wire.Model, frozen=True, kw_only=True):
    """The answer of `/process/code-run`."""

    exit_code: int
    result: str
    """Standard output and standard error in the order in which they were written."""
    artifacts: Artifacts | UnsetType = UNSET
    """Left out when there are no charts."""

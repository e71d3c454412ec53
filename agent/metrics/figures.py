"""What is told at one scrape: read at once in the loop, shown later in a thread."""

import msgspec

from agent.web.counts import Tally


class ProcessFigures(msgspec.Struct, frozen=True):
    """One of the agent's own processes."""

    name: str
    memory_bytes: int
    """Resident."""
    cpu_s: float
    descriptors: int
    """0 when they cannot be counted."""


class Figures(msgspec.Struct, frozen=True):
    """The agent at one moment."""

    version: str
    tallies: dict[tuple[str, str], Tally]
    in_flight: int
    running: dict[str, int]
    """How many run, by what they are."""
    keeper: dict[str, int | float]
    """The keeper's own numbers."""
    processes: list[ProcessFigures]
    lag_s: float
    """How long the event loop took to come round."""

"""Gives the agent a chart of each figure that pyplot shows.

`run_python.py` loads this into the sandbox's own Python once `matplotlib.pyplot` was
imported, so matplotlib is there, of whichever version. `pyplot.show` then sends one chart
for each open figure before it does what it always does, and closes all of them after.
What is in a chart is read by `drawings.py` beside this.

A record goes through the agent's pipe in frames that the kernel writes as one piece each
(man 7 pipe, PIPE_BUF), so that threads and forked children may send too.
"""

# Any Python from 3.8 on runs this, so annotations that it could not read are quoted.

import base64
import functools
import hashlib
import io
import json
import os
import struct
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Callable, Dict, Optional, Set

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME = struct.Struct(">8sHB")
"""The record's name, the size of the piece that follows, whether it is the last."""
FRAME_BYTES = 4096
PIECE_BYTES = FRAME_BYTES - FRAME.size

DOTS_PER_INCH = 100

Record = Dict[str, object]
Read = Callable[["Figure"], Record]


class Control:
    """The pipe to the agent.

    Args:
        fd: Its descriptor, until somebody closes it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._inode = os.fstat(fd).st_ino

    def send(self, chart: Record) -> None:
        """Write a chart, whole or not at all as far as the agent is concerned.

        Raises:
            OSError: The pipe was closed, or its number belongs to another file now.
        """
        if os.fstat(self._fd).st_ino != self._inode:
            raise OSError("the agent's pipe was closed")
        text = json.dumps(chart, allow_nan=False).encode("ascii")
        name = os.urandom(8)
        for start in range(0, len(text), PIECE_BYTES):
            piece = text[start : start + PIECE_BYTES]
            last = start + PIECE_BYTES >= len(text)
            os.write(self._fd, FRAME.pack(name, len(piece), last) + piece)


def watch(pyplot: ModuleType, fd: int, read: Read) -> None:
    """Have `pyplot.show` send the figures that are open.

    Args:
        pyplot: The module, which has just been run.
        fd: The agent's pipe.
        read: Turns a figure that was drawn into a chart.
    """
    control = Control(fd)
    show = pyplot.show

    @functools.wraps(show)
    def show_and_tell(*arguments: object, **named: object) -> object:
        tell(pyplot, control, read)
        try:
            with warnings.catch_warnings():
                # That there is no screen is no news here.
                warnings.filterwarnings("ignore", message=".*non-interactive")
                warnings.filterwarnings("ignore", message=".*non-GUI backend")
                return show(*arguments, **named)
        finally:
            pyplot.close("all")

    pyplot.show = show_and_tell  # type: ignore[attr-defined] # a module takes any name


def tell(pyplot: ModuleType, control: Control, read: Read) -> None:
    """Send a chart of each open figure, but only one of those that look the same."""
    seen: Set[bytes] = set()
    managers = pyplot._pylab_helpers.Gcf.get_all_fig_managers()  # noqa: SLF001 - `pyplot.figure` would change the current one
    for manager in sorted(managers, key=lambda each: each.num):
        tell_one(manager.canvas.figure, control, read, seen)


def tell_one(
    figure: "Figure", control: Control, read: Read, seen: "Set[bytes]"
) -> None:
    """Send the chart of a figure, unless one that looks the same was sent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chart = chart_of(figure, read)
        look = hashlib.sha256(str(chart.get("png") or id(chart)).encode()).digest()
        if look not in seen:
            seen.add(look)
            control.send(chart)
    except Exception:  # noqa: BLE001, S110 - nothing of ours may fail the code
        pass


def chart_of(figure: "Figure", read: Read) -> Record:
    """Return a figure's chart; of one that cannot be read or drawn, what can be had."""
    # First the picture: drawing is what gives the ticks their labels.
    png = picture(figure)
    try:
        chart = read(figure)
    except Exception:  # noqa: BLE001 - the picture tells more than nothing
        chart = {"type": "unknown", "elements": []}
    if png is not None:
        chart["png"] = png
    return chart


def picture(figure: "Figure") -> Optional[str]:
    """Return the figure as a PNG in base64, or None when it cannot be drawn."""
    file = io.BytesIO()
    try:
        figure.savefig(file, format="png", bbox_inches="tight", dpi=DOTS_PER_INCH)
    except Exception:  # noqa: BLE001 - as above
        return None
    return base64.b64encode(file.getvalue()).decode("ascii")

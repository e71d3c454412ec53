"""How the end of a shell is told to its clients (contract 32 §6.4)."""

from agent import wire
from agent.keeper.client import Exit
from agent.pty.models import CloseReason, Control
from agent.wire import UNSET, UnsetType

NORMAL = 1000
GOING_AWAY = 1001
SLOW = 1008
TROUBLE = 1011

SIGNALS = {130: "Ctrl+C", 137: "SIGKILL", 143: "SIGTERM"}


def reason_of(exit_code: int) -> str | UnsetType:
    """Return in words why a shell ended; nothing for one that ended well."""
    if exit_code == 0:
        return UNSET
    if exit_code in SIGNALS:
        return SIGNALS[exit_code]
    return f"signal {exit_code - 128}" if exit_code > 128 else "non-zero exit"


def exited_message(end: Exit) -> str:
    """Return the control message that tells of an end."""
    return text_of(
        Control(
            status="exited",
            exit_code=end.exit_code,
            exit_reason=reason_of(end.exit_code),
        )
    )


def closing(end: Exit) -> tuple[int, str]:
    """Return the code and reason of the close frame that tells of an end."""
    reason = CloseReason(exit_code=end.exit_code, exit_reason=reason_of(end.exit_code))
    return (NORMAL if end.exit_code == 0 else TROUBLE), text_of(reason)


def text_of(message: Control | CloseReason) -> str:
    """Return a message as it is sent."""
    return wire.encode(message).decode()

"""The keeper's refusals: a kind that the api's side turns into a typed error, and why."""


class Refusal(Exception):  # noqa: N818 - the word of the protocol
    """A request that is not granted.

    Args:
        kind: `not-found`, `conflict`, `gone`, `invalid`, `too-many`, `full`,
            `start-failed` or `os`.
        message: Names the thing and the reason.
        number: The `errno` of the failed system call, where there was one.
    """

    def __init__(self, kind: str, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.number = number


def reason(what: str, error: OSError) -> str:
    """Return `what: no such file or directory`, the form that shells have."""
    return f"{what}: {(error.strerror or str(error)).lower()}"

"""A small store of bytes by name, in memory, that outlasts the api (decisions 17)."""

from agent.keeper.errors import Refusal

STORE_MAX_BYTES = 4 * 1024 * 1024
"""Names and values together; the store is for tokens and settings, not for data."""


class Store:
    """Bytes by name, bounded."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._used = 0

    def set(self, name: str, value: bytes) -> None:
        """Keep a value under a name, in place of the one before.

        Raises:
            Refusal: `full`; the one before is kept.
        """
        used = self._used - self._size(name) + _weight(name, value)
        if used > STORE_MAX_BYTES:
            raise Refusal("full", f"no room for {len(value)} bytes under {name!r}")
        self._values[name] = value
        self._used = used

    def get(self, name: str) -> bytes:
        """Return a value.

        Raises:
            Refusal: `not-found`.
        """
        if name not in self._values:
            raise Refusal("not-found", f"nothing is kept under {name!r}")
        return self._values[name]

    def delete(self, name: str) -> None:
        """Drop a value; a name that is unknown is no error."""
        self._used -= self._size(name)
        self._values.pop(name, None)

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._values)

    def _size(self, name: str) -> int:
        return _weight(name, self._values[name]) if name in self._values else 0


def _weight(name: str, value: bytes) -> int:
    return len(name.encode("utf-8", "surrogatepass")) + len(value)

"""Finds the route for a path in any of the four forms in which clients write it.

The forms (contract 00 §2): bare; `/toolbox/{sandbox}/toolbox/…` (control plane and first
SDKs); `/toolbox/{sandbox}/…` (today's proxy); `/{sandbox}/…` (newest SDK without a path in
its proxy URL). The path is matched as it was sent, still percent-encoded, so that an
encoded slash stays inside its segment. One trailing slash is accepted everywhere and
nothing is ever redirected: a 3xx on DELETE broke clients.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from agent.errors import MethodNotAllowedError, NotFoundError
from agent.web.query import unquote
from agent.web.routes import Route


class Match(NamedTuple):
    """A route and the path segments it names, decoded."""

    route: Route
    names: dict[str, str]


class _Node(msgspec.Struct):
    """One position in the tree of path segments; literal names win over `{name}`."""

    literal: dict[str, "_Node"] = msgspec.field(default_factory=dict)
    variable: "_Node | None" = None
    routes: dict[str, Route] = msgspec.field(default_factory=dict)
    open_ended: Route | None = None
    """Serves this position and everything below it."""


class Router:
    """All routes of the agent, by path and method.

    Args:
        routes: Those that are there from the start.
        first_segments: With what the paths of routes begin that are added later.
        open_ended: Those of them below which nothing is touched.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        first_segments: Iterable[str] = (),
        open_ended: Iterable[str] = (),
    ) -> None:
        self._root = _Node()
        # Generated, never listed by hand, so that no route is taken for a sandbox id.
        self.first_segments = set(first_segments)
        self._open_ended = set(open_ended)
        # Paths without a name in them, as most clients write them: one look each.
        self._plain: set[str] = set()
        self._matches: dict[tuple[str, str], Match] = {}
        self.add(routes)

    def add(self, routes: Iterable[Route]) -> None:
        """Add routes."""
        for route in routes:
            self._add(route)
            self.first_segments.add(route.segments[0])
            if route.open_ended:
                self._open_ended.add(route.segments[0])
            if "{" not in route.path:
                self._plain.add(route.path)
                self._matches[route.method, route.path] = Match(route, {})

    def _add(self, route: Route) -> None:
        node = self._root
        segments = route.segments[:-1] if route.open_ended else route.segments
        for segment in segments:
            if segment.startswith("{"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literal.setdefault(segment, _Node())
        if route.method in node.routes or node.open_ended is not None:
            raise ValueError(f"two routes for {route.method} {route.path}")
        if route.open_ended:
            node.open_ended = route
            return
        node.routes[route.method] = route

    def canonical(self, raw_path: str) -> str:
        """Return `raw_path` without a client's prefix and without a trailing slash."""
        if raw_path in self._plain:
            return raw_path
        segments = raw_path.split("/")[1:]
        if segments and segments[0] == "toolbox" and len(segments) > 1 and segments[1]:
            segments = segments[2:]
            if segments and segments[0] == "toolbox":
                segments = segments[1:]
        elif (
            len(segments) > 1
            and segments[0]
            and segments[0] not in self.first_segments
            and segments[1] in self.first_segments
        ):
            segments = segments[1:]
        if (
            len(segments) > 1
            and not segments[-1]
            and segments[0] not in self._open_ended
        ):
            segments = segments[:-1]
        return "/" + "/".join(segments)

    def is_known(self, path: str) -> bool:
        """Tell whether a canonical path is that of a route without names in it."""
        return path in self._plain

    def match(self, method: str, path: str) -> Match:
        """Return the route for a canonical path.

        Raises:
            NotFoundError: No route has this path.
            MethodNotAllowedError: It has other methods; they are named.
        """
        known = self._matches.get((method, path))
        if known is not None:
            return known
        values: list[str] = []
        node = _find(self._root, path[1:].split("/"), 0, values)
        if node is None:
            raise NotFoundError(f"no route for {unquote(path)}")
        if node.open_ended is not None:
            return _open_match(node.open_ended, values)
        route = node.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = sorted(
                {*node.routes, *(["HEAD"] if "GET" in node.routes else [])}
            )
            raise MethodNotAllowedError(
                f"{method} is not allowed on {unquote(path)}", allowed=tuple(allowed)
            )
        return Match(route, dict(zip(_names(route), map(unquote, values), strict=True)))


def _open_match(route: Route, values: list[str]) -> Match:
    """Return the match of an open-ended route; what is below it stays as it was sent."""
    *above, below = values
    names = zip(_names(route), [*map(unquote, above), below], strict=True)
    return Match(route, dict(names))


def _names(route: Route) -> list[str]:
    return [each[1:-1] for each in route.segments if each.startswith("{")]


def _find(
    node: _Node, segments: list[str], position: int, values: list[str]
) -> _Node | None:
    """Walk to the node for `segments`, filling `values` with the variable ones."""
    if node.open_ended is not None:
        values.append("".join(f"/{each}" for each in segments[position:]))
        return node
    if position == len(segments):
        return node if node.routes else None
    segment = segments[position]
    literal = node.literal.get(segment)
    if literal is not None:
        found = _find(literal, segments, position + 1, values)
        if found is not None:
            return found
    if node.variable is None or not segment:
        return None
    values.append(segment)
    found = _find(node.variable, segments, position + 1, values)
    if found is None:
        values.pop()
    return found

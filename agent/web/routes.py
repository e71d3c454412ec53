"""Typed route tables: a handler's signature is its contract.

A parameter named in the path is a path segment, `body` is the JSON body, `request` is the
request itself, and every other parameter is a query parameter. Names on the wire are the
camelCase of the Python names. The return annotation says what is sent: a model (JSON), a
list of models, `Encoded[...]` (JSON made elsewhere, in a worker thread say), `None` (no
body) or an aiohttp response (the handler streams for itself).
"""

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping
from types import UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
    Unpack,
    get_args,
    get_origin,
)

import msgspec
from aiohttp import web

from agent import wire
from agent.errors import InvalidRequestError

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
HandlerT = TypeVar("HandlerT", bound=Handler)

Upgrade = Literal["only", "also"]
"""A route that always upgrades, or one that answers plainly too."""

ANY_METHOD = "*"
"""The method of a route that takes them all."""

JSON_TYPE = "application/json; charset=utf-8"
BAD_REQUEST = 400


class Encoded(msgspec.Struct, Generic[T], frozen=True):
    """A JSON answer that is already encoded; `T` tells its shape.

    A very long one may come in pieces, made while the client takes them.
    """

    body: bytes | AsyncIterable[bytes]


class Parameter(msgspec.Struct, frozen=True):
    """One path or query parameter of a route."""

    name: str
    wire_name: str
    shape: Any
    required: bool
    default: Any

    def read(self, values: list[str] | None) -> Any:
        """Return the parameter's value from what the query holds.

        Raises:
            InvalidRequestError: It is missing, empty, or of another type.
        """
        text = values[0] if values else ""
        if not text:
            # An empty parameter counts as missing (contract 10 §0).
            if self.required:
                raise InvalidRequestError(f"{self.wire_name} is required")
            return self.default
        if self.shape is str:
            return text
        if self.shape is bool:
            # Only this exact word is true (contract 00 §3).
            return text == "true"
        try:
            return msgspec.convert(text, self.shape, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"{self.wire_name}: {error}") from error


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: method, path template, handler, and what its signature says."""

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str
    status: int = 200
    errors: tuple[int, ...] = ()
    public: bool = False
    signed: bool = False
    websocket: Upgrade | None = None
    upload: bool = False
    open_ended: bool = False
    segments: tuple[str, ...]
    queries: tuple[Parameter, ...]
    body: type[wire.Model] | None
    body_required: bool
    result: Any
    takes_request: bool

    async def call(
        self, request: web.Request, names: dict[str, str], query: dict[str, list[str]]
    ) -> web.StreamResponse:
        """Read the arguments from `request`, run the handler, encode its answer."""
        arguments: dict[str, Any] = dict(names)
        for parameter in self.queries:
            arguments[parameter.name] = parameter.read(query.get(parameter.wire_name))
        if self.body is not None:
            text = await request.read()
            if self.body_required or text.strip():
                arguments["body"] = wire.decode(text, self.body)
        if self.takes_request:
            arguments["request"] = request
        return self.respond(await self.handler(**arguments))

    def respond(self, answer: Any) -> web.StreamResponse:
        """Return `answer` as the response that the route documents."""
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is None:
            return web.Response(status=self.status)
        body = answer.body if isinstance(answer, Encoded) else wire.encode(answer)
        return web.Response(
            status=self.status, body=body, headers={"Content-Type": JSON_TYPE}
        )


class Declare(Protocol):
    """Binds a handler to the route that was declared, and returns it as it was."""

    def __call__(self, handler: HandlerT, /) -> HandlerT:
        """Bind `handler`."""


class Options(TypedDict, total=False):
    """What a route's declaration may say besides method and path."""

    status: int
    """The status of success; 200 when not given."""
    errors: tuple[int, ...]
    """The statuses of failure that the contract lists."""
    public: bool
    """It needs no token and tells nothing."""
    signed: bool
    """A valid signed file URL is accepted in place of a token."""
    websocket: Upgrade
    """It upgrades, always or when it is asked to; the handler returns the websocket."""
    upload: bool
    """It reads the request's body itself, as a stream."""
    open_ended: bool
    """Its last name stands for all that is left of the path, raw, with the slash before.

    What is there, and how it is sent, is another server's business: the trailing slash,
    the body's coding, an expectation.
    """


class Routes(msgspec.Struct):
    """A subsystem's route table; `tag` groups its operations in the OpenAPI document."""

    tag: str
    table: list[Route] = msgspec.field(default_factory=list)

    def __iter__(self) -> Iterator[Route]:
        """Go through the routes in the order they were declared."""
        return iter(self.table)

    def get(self, path: str, **options: Unpack[Options]) -> Declare:
        """Declare a GET route (HEAD comes with it)."""
        return self.add("GET", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> Declare:
        """Declare a POST route."""
        return self.add("POST", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> Declare:
        """Declare a DELETE route."""
        return self.add("DELETE", path, **options)

    def add(self, method: str, path: str, **options: Unpack[Options]) -> Declare:
        """Declare a route with any method."""

        def declare(handler: HandlerT) -> HandlerT:
            route = _describe(handler, path, method=method, tag=self.tag, **options)
            self.table.append(route)
            return handler

        return declare


def with_headers(
    answer: wire.Model, headers: Mapping[str, str], status: int = 200
) -> web.Response:
    """Return a model as an answer with further headers, or another status."""
    return web.Response(
        status=status,
        body=wire.encode(answer),
        headers={"Content-Type": JSON_TYPE, **headers},
    )


def camel(name: str) -> str:
    """Return the wire name of a Python name: `session_id` is `sessionId`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _describe(handler: Handler, path: str, **options: Any) -> Route:
    """Read a handler's signature into a `Route`."""
    segments = tuple(path.strip("/").split("/"))
    in_path = {each[1:-1] for each in segments if each.startswith("{")}
    signature = inspect.signature(handler)
    queries: list[Parameter] = []
    body: type[wire.Model] | None = None
    body_required = True
    for name, parameter in signature.parameters.items():
        if name == "request" or name in in_path:
            continue
        if name == "body":
            body, body_required = _body_shape(parameter)
            continue
        required = parameter.default is parameter.empty
        queries.append(
            Parameter(
                name=name,
                wire_name=camel(name),
                shape=_without_none(parameter.annotation),
                required=required,
                default=None if required else parameter.default,
            )
        )
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
    return Route(
        path=path,
        handler=handler,
        segments=segments,
        queries=tuple(queries),
        body=body,
        body_required=body_required,
        result=signature.return_annotation,
        takes_request="request" in signature.parameters,
        summary=summary,
        description=description,
        **options,
    )


def _body_shape(parameter: inspect.Parameter) -> tuple[type[wire.Model], bool]:
    """Return the model of a `body` parameter and whether a body must be there."""
    return _without_none(parameter.annotation), parameter.default is parameter.empty


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, UnionType}:
        rest = [each for each in get_args(annotation) if each is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return annotation


PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
"""A whole number of 1 or more."""

"""Makes the OpenAPI 3.1 document from the route tables.

What a handler's signature and docstring say is all there is to say: nothing is written
twice, so the document cannot lie about the routes.
"""

from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from aiohttp import web

from agent import wire
from agent.web.routes import ANY_METHOD, Encoded, Route, camel

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""Those that a path can have in the document."""

ERROR_SCHEMA = {"$ref": "#/components/schemas/Error"}


class Error(wire.Model, frozen=True, kw_only=True):
    """The shape of every failure (contract 00 §5)."""

    status_code: int
    message: str
    source: str
    code: str
    timestamp: str
    path: str
    method: str


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of `routes`."""
    routes = tuple(routes)
    shapes = [Error, *_shapes(routes)]
    schemas, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    by_shape = {
        str(shape): schema for shape, schema in zip(shapes, schemas, strict=True)
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = "/" + "/".join(_segment(each) for each in route.segments)
        operations = paths.setdefault(path, {})
        if route.method != ANY_METHOD:
            operations[route.method.lower()] = _operation(route, by_shape)
            continue
        for method in METHODS:
            operation = _operation(route, by_shape)
            operation["operationId"] += method.capitalize()
            operations[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Toolbox agent",
            "version": version,
            "description": "The toolbox API of a sandbox, as the Daytona SDKs speak it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to where this document was read, so it holds behind any prefix.
        "servers": [{"url": "."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _segment(segment: str) -> str:
    return f"{{{camel(segment[1:-1])}}}" if segment.startswith("{") else segment


def _shapes(routes: Iterable[Route]) -> list[Any]:
    """Return every type that a body, a parameter or an answer has, each once."""
    found: dict[str, Any] = {}
    for route in routes:
        wanted = [route.body, _result(route), *(each.shape for each in route.queries)]
        for shape in wanted:
            if shape is not None:
                found[str(shape)] = shape
    return list(found.values())


def _result(route: Route) -> Any:
    """Return the type of the JSON answer; None when there is none or it is streamed.

    A handler that answers either with a model or with a response of its own making is
    described by the model.
    """
    result = route.result
    if get_origin(result) in {Union, UnionType}:
        models = [each for each in get_args(result) if not _is_response(each)]
        result = models[0] if len(models) == 1 else result
    if get_origin(result) is Encoded:
        return get_args(result)[0]
    return None if _is_response(result) else result


def _is_response(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, web.StreamResponse)


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": camel(route.handler.__name__),
        "tags": [route.tag],
        "summary": route.summary,
        "responses": _responses(route, schemas),
    }
    if route.description:
        operation["description"] = route.description
    parameters = _parameters(route, schemas)
    if parameters:
        operation["parameters"] = parameters
    if route.public:
        operation["security"] = []
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {"application/json": {"schema": schemas[str(route.body)]}},
        }
    elif route.upload:
        operation["requestBody"] = {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object"}},
                "application/octet-stream": {"schema": {}},
            },
        }
    return operation


def _parameters(route: Route, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    in_path = [
        {
            "name": camel(segment[1:-1]),
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
        }
        for segment in route.segments
        if segment.startswith("{")
    ]
    in_query: list[dict[str, Any]] = []
    for each in route.queries:
        schema = dict(schemas[str(each.shape)])
        if each.default is not None:
            schema["default"] = each.default
        in_query.append(
            {
                "name": each.wire_name,
                "in": "query",
                "required": each.required,
                "schema": schema,
            }
        )
    return in_path + in_query


def _responses(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    result = _result(route)
    answer: dict[str, Any] = {"description": "Success"}
    if result not in {None, NoneType}:
        answer["content"] = {"application/json": {"schema": schemas[str(result)]}}
    elif result is None and route.result is not None:
        answer["content"] = {"application/octet-stream": {"schema": {}}}
    responses = {str(route.status): answer}
    if route.websocket == "only":
        responses.clear()
    if route.websocket:
        responses["101"] = {"description": "Switching to a websocket"}
    for status in sorted({*route.errors, *(() if route.public else (401,))}):
        responses[str(status)] = {
            "description": "Failure",
            "content": {"application/json": {"schema": ERROR_SCHEMA}},
        }
    return responses

"""Which other origins' pages may read a preview: those that can show its token.

The platform's proxy answers for the app, with credentials allowed (contract 50 §4). So
do we, but only to callers that are known: an origin that merely has a browser with our
cookie in it reads nothing.
"""

from collections.abc import Mapping

from aiohttp import hdrs, web
from multidict import CIMultiDict

PREFLIGHT_LIFETIME_S = 600
ALL = (
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN,
    hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS,
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS,
)


def is_preflight(request: web.Request) -> bool:
    """Tell whether a browser asks, on another origin's behalf, what it may send."""
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ORIGIN in request.headers
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


def preflight_answer(headers: Mapping[str, str]) -> web.Response:
    """Return the answer to a preflight; whoever comes then has a token to show."""
    answer = web.Response(status=204)
    answer.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = headers[
        hdrs.ACCESS_CONTROL_REQUEST_METHOD
    ]
    wanted = headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
    if wanted:
        answer.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = wanted
    answer.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_LIFETIME_S)
    allow_origin(answer.headers, headers[hdrs.ORIGIN])
    return answer


def allow_origin(headers: CIMultiDict[str], origin: str) -> None:
    """Let an origin's pages read the answer, whatever the app says of that."""
    for name in ALL:
        headers.popall(name, None)
    headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
    headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "*"
    headers.add(hdrs.VARY, hdrs.ORIGIN)

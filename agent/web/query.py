"""Lossless reading of query strings and path segments.

File names are bytes. aiohttp's own `request.query` turns `%FF` into U+FFFD and so names
another file than the one asked for; here every byte survives, as `surrogateescape`, the
form in which Python's file calls take it (PEP 383).
"""

from urllib.parse import unquote_to_bytes


def unquote(text: str) -> str:
    """Return percent-encoded `text` as a string that keeps bytes that are not UTF-8."""
    if "%" not in text:
        return text
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def parse_query(raw: str) -> dict[str, list[str]]:
    """Return the parameters of the raw query string `raw`, values in their order.

    Both `%20` and `+` are a space: official clients send the first, forms the second.
    """
    values: dict[str, list[str]] = {}
    for pair in raw.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            values.setdefault(unquote(name.replace("+", " ")), []).append(
                unquote(value.replace("+", " "))
            )
    return values

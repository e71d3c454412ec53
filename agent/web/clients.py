"""Knows which official client cannot take the fields that later versions added."""

import re
from collections.abc import Mapping

FIRST_TOLERANT = (0, 188, 0)
"""The Go SDK refuses unknown fields before this version (contract 00 §3)."""


def takes_new_fields(headers: Mapping[str, str]) -> bool:
    """Tell whether the caller takes fields that the first versions did not have."""
    if headers.get("X-Daytona-Source") != "sdk-go":
        return True
    version = headers.get("X-Daytona-SDK-Version", "")
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        return True
    parts = tuple(int(each) for each in numbers.groups())
    # 0.0.0 is a build from source, newer than any release.
    return parts == (0, 0, 0) or parts >= FIRST_TOLERANT

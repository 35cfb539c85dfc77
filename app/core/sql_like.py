"""Text of users in patterns."""

import re


def containing(part: str) -> str:
    """A pattern for `LIKE` and `ILIKE`: texts with `part` in them, its own `%` and `_` meant literally."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", part) + "%"

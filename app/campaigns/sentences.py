"""Why a campaign stands still, as a code with parameters, and the sentence of each code.

One table, and in it whole sentences, so that each can be translated as one.
"""

from collections.abc import Mapping
from typing import Any

SENTENCES: dict[str, str] = {
    "paused_by_owner": "You paused the campaign.",
}


def sentence(code: str | None, parameters: Mapping[str, Any] | None) -> str | None:
    """The sentence of a code, none where there is no code."""
    return None if code is None else SENTENCES[code].format(**(parameters or {}))

"""Why a file cannot be read, as its sender is told."""

from app.core.errors import Invalid


def unreadable(sentence: str) -> Invalid:
    """The 422 for a file as a whole."""
    return Invalid({"file": [sentence]})

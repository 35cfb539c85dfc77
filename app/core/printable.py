"""What strangers wrote, on its way to somebody's terminal."""


def printable(text: str) -> str:
    """The text with its control characters spelled out: a terminal would obey them, and a line end would look like the
    end of the line that it stands in.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

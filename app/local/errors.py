class LocalError(Exception):
    """Something the person at the terminal can put right; its text says what, and how."""

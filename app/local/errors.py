class LocalError(Exception):
    """Something the operator can fix; its text says what, and how."""

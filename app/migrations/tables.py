"""Every module that defines tables, so that the metadata is whole."""

import importlib

_FEATURES = ("accounts", "contacts", "devices", "messages", "releases", "webhooks")


def load_tables() -> None:
    """Import every feature's models."""
    for feature in _FEATURES:
        importlib.import_module(f"app.{feature}.models")

"""Every module that defines tables, so that the metadata is whole."""

import importlib

from app.features import PACKAGES


def load_tables() -> None:
    """Import every package's models."""
    for package in PACKAGES:
        if package.models:
            importlib.import_module(f"app.{package.name}.models")

"""The embedded database of an installation that is stopped, for commands that need it alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.database import close_engines
from app.core.settings import get_settings
from app.local.errors import LocalError
from app.local.folder import DataFolder
from app.local.home import open_home
from app.local.servers import EmbeddedPostgres


@contextmanager
def database(data_dir: Path, *, create: bool) -> Iterator[None]:
    """Run it, and point the settings at it meanwhile. Raises `LocalError` where the installation runs, and where there
    is no database unless it is to be created.
    """
    folder = DataFolder(data_dir)
    try:
        if not create and not (EmbeddedPostgres(folder.path).home.folder / "data").exists():
            raise LocalError(f"there is no database of {folder.path}")
        if os.geteuid() == 0 and (files := open_home(folder.path, "app", temporary=False).folder / "releases").is_dir():
            os.environ["SMSFLEET_DATA_DIR"] = str(files.parent)
        with EmbeddedPostgres(folder.path) as server:
            os.environ["SMSFLEET_DATABASE_URL"] = server.url
            get_settings.cache_clear()
            yield
            close_engines()
    finally:
        folder.close()

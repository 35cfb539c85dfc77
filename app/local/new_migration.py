"""`make migration NAME=…`: a new migration, from what the models say and a database of the newest schema lacks.

The database is an embedded one that lives as long as this command.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

from alembic import command

from app import migrations
from app.core.settings import get_settings
from app.local.servers import EmbeddedPostgres
from app.migrations.config import alembic_config, migrate

VERSIONS = Path(migrations.__file__).parent / "versions"


def create(name: str, versions: Path = VERSIONS) -> Path:
    """Write the next migration, and return its file."""
    newest = max(int(file.name[:4]) for file in versions.glob("[0-9]*.py"))
    revision = f"{newest + 1:04}"
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder), durable=False) as postgres:
        os.environ["SMSFLEET_DATABASE_URL"] = postgres.url
        get_settings.cache_clear()
        migrate()
        config = alembic_config()
        config.set_main_option("version_locations", str(versions))
        command.revision(config, message=name, autogenerate=True, rev_id=revision)
    [file] = versions.glob(f"{revision}_*.py")
    return file


if __name__ == "__main__":
    if len(sys.argv) != 2 or not re.fullmatch(r"[a-z][a-z0-9_ ]{2,40}", sys.argv[1]):  # noqa: PLR2004 - the name
        sys.exit('NAME says what it does, in lower case: make migration NAME="contact zone"')
    print(create(sys.argv[1]))  # noqa: T201 - speaks to a person at a terminal

"""`make migration`: the next migration is numbered, whole, and empty where the models and the database agree."""

import shutil

import pytest

from app.core.settings import get_settings
from app.local.new_migration import VERSIONS, create


@pytest.fixture
def versions(tmp_path, monkeypatch):
    monkeypatch.setenv("SMSFLEET_DATABASE_URL", "")
    yield shutil.copytree(VERSIONS, tmp_path / "versions", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.undo()
    get_settings.cache_clear()


# What SQLAlchemy makes of a constraint that is NOT VALID.
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
def test_the_next_migration(versions):
    newest = max(int(file.name[:4]) for file in versions.glob("[0-9]*.py"))
    file = create("contact zone", versions)
    assert file.name == f"{newest + 1:04}_contact_zone.py"
    written = file.read_text().replace("'", '"')
    assert f'revision = "{newest + 1:04}"' in written
    assert f'down_revision = "{newest:04}"' in written
    assert "op." not in written, "the models say what the migrations made"

"""The file of a backup: whose it is, and what else lies in the folder it is written to."""

import zipfile
from concurrent.futures import ThreadPoolExecutor

from app.local import backup


def test_it_follows_nobodys_link_and_is_its_owners_alone(database, tmp_path):
    """In a folder that others may write to, such as /tmp."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("x.zip", "x.zip.part", "x.zip.new", ".x.zip"):
        (tmp_path / name).symlink_to(victim)
    there = {path.name for path in tmp_path.iterdir()}
    backup.take(tmp_path / "x.zip")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "x.zip").is_symlink()
    assert (tmp_path / "x.zip").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == there


def test_two_at_once_to_one_file_leave_a_whole_one(database, tmp_path):
    target = tmp_path / "x.zip"
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(backup.take, [target] * 2))) == 2
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        backup.Manifest.model_validate_json(archive.read(backup.MANIFEST))
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]

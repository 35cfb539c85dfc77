"""Published versions of the phone app: their files, and which one the update feed offers.

A file lies in the data folder under its SHA-256. It is there, whole and on disk, before the row that names it.
"""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.core.errors import NotFound
from app.core.settings import get_settings
from app.core.validation import row_id
from app.releases.models import Release

MODEL = "Release"
_CHUNK = 1024 * 1024


def folder() -> Path:
    """Where the files lie. The command that publishes and every API process must see the same one."""
    return get_settings().data_dir / "releases"


def path_of(release: Release) -> Path:
    return folder() / f"{release.sha256}.apk"


def is_apk(file: Path) -> bool:
    """Whether a file is an Android package: a ZIP archive with a manifest."""
    try:
        with zipfile.ZipFile(file) as archive:
            return "AndroidManifest.xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def store(source: IO[bytes]) -> tuple[str, int]:
    """Copy a file to its place: its SHA-256 and size. A copy that was cut short never has a release's name."""
    place = folder()
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor, temporary = tempfile.mkstemp(prefix=".publishing-", dir=place)
    try:
        with os.fdopen(descriptor, "wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += target.write(chunk)
            target.flush()
            os.fchmod(target.fileno(), 0o644)
            os.fsync(target.fileno())
        Path(temporary).replace(place / f"{digest.hexdigest()}.apk")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(place)
    return digest.hexdigest(), size


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def latest(session: Session) -> Release | None:
    """The active release with the highest version code; of two with the same, the one published last."""
    query = (
        select(Release).where(Release.withdrawn_at.is_(None)).order_by(Release.version_code.desc(), Release.id.desc())
    )
    return session.scalars(query.limit(1)).one_or_none()


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('releases.publish', 0))")


def publish(session: Session, release: Release) -> bool:
    """Offer a release; False if one with its version code is offered already, which phones could not tell apart."""
    session.execute(_ONE_AT_A_TIME)
    offered = select(Release.id).where(Release.version_code == release.version_code, Release.withdrawn_at.is_(None))
    if session.scalars(offered.limit(1)).first() is not None:
        return False
    session.add(release)
    session.flush()
    audit.record(session, Action.RELEASE_PUBLISHED, None, release.id, version=release.version_name)
    return True


def find(session: Session, release: str) -> Release:
    """A release that was not withdrawn. Raises `NotFound`."""
    query = select(Release).where(Release.id == (row_id(release) or 0), Release.withdrawn_at.is_(None))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(MODEL)
    return found


def releases(session: Session) -> list[Release]:
    """All releases, the newest version first, withdrawn ones too."""
    return list(session.scalars(select(Release).order_by(Release.version_code.desc(), Release.id.desc())))


def withdraw(session: Session, release_id: int) -> bool:
    """Offer a release no more; whether it was offered. Its file stays, for another release may have the same."""
    statement = (
        update(Release)
        .where(Release.id == release_id, Release.withdrawn_at.is_(None))
        .values(withdrawn_at=func.clock_timestamp())
        .returning(Release.id)
    )
    if session.execute(statement).first() is None:
        return False
    audit.record(session, Action.RELEASE_WITHDRAWN, None, release_id)
    return True

"""The phone app's update feed. No token is needed."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from app.core.database import SessionDep
from app.core.envelope import Envelope
from app.core.errors import Unavailable
from app.core.links import base_url
from app.releases import storage
from app.releases.models import Release

router = APIRouter(prefix="/api/app", tags=["App updates"])

APK = "application/vnd.android.package-archive"
_ONE_RANGE = re.compile(r"bytes=([0-9]+-[0-9]*|-[0-9]+)")


class ReleaseOut(BaseModel):
    version_name: str
    version_code: int
    release_notes: str
    mandatory: bool
    apk_url: str
    apk_size: int


@router.get("/latest")
def latest(session: SessionDep, request: Request) -> Envelope[ReleaseOut | None]:
    """The newest version of the phone app, null where none is offered."""
    release = storage.latest(session)
    if release is None:
        return Envelope(data=None)
    return Envelope(
        data=ReleaseOut(
            version_name=release.version_name,
            version_code=release.version_code,
            release_notes=release.notes,
            mandatory=release.mandatory,
            apk_url=f"{base_url(request.scope)}/api/app/download/{release.id}",
            apk_size=release.size,
        )
    )


def release_of(session: SessionDep, release_id: str) -> Release:
    return storage.find(session, release_id)


@router.get(
    "/download/{release_id}",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The file; one range of it as a 206",
            "content": {APK: {"schema": {"type": "string", "format": "binary"}, "example": "The bytes of the APK"}},
        }
    },
)
def download(request: Request, release: Annotated[Release, Depends(release_of)]) -> FileResponse:
    """The file of a version, whole or one range of it."""
    path = storage.path_of(release)
    if not path.is_file():
        raise Unavailable("The file of this release is not in the data folder of this server.")
    _forget_odd_range(request)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", release.version_name)
    headers = {"ETag": f'"{release.sha256}"', "Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(path, media_type=APK, filename=f"smsfleet-{name}.apk", headers=headers)


def _forget_odd_range(request: Request) -> None:
    """A range that is no range is as none (RFC 9110); the file answer would refuse it."""
    if not _ONE_RANGE.fullmatch(request.headers.get("range", "bytes=0-")):
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]

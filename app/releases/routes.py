"""The phone app's update feed. No token is needed."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from app.core.dependencies import SessionDep
from app.core.envelope import Envelope
from app.core.errors import Unavailable
from app.core.links import EXAMPLE_URL, base_url
from app.core.refusals import FILE_MISSING, refuses
from app.releases import storage
from app.releases.models import Release

router = APIRouter(prefix="/api/app", tags=["App updates"])

ReleaseId = Annotated[
    str, Path(description="The version's number", examples=["3"], json_schema_extra={"model": storage.MODEL})
]
APK = "application/vnd.android.package-archive"
_ONE_RANGE = re.compile(r"bytes=([0-9]+-[0-9]*|-[0-9]+)")


class ReleaseOut(BaseModel):
    version_name: str = Field(examples=["1.0.1"])
    version_code: int = Field(examples=[2])
    release_notes: str = Field(examples=["Fixes the pace of dual-SIM phones."])
    mandatory: bool = Field(examples=[False])
    apk_url: str = Field(examples=[f"{EXAMPLE_URL}/api/app/download/3"])
    apk_size: int = Field(examples=[27418624])


@router.get("/latest", summary="Latest version")
def latest(session: SessionDep, request: Request) -> Envelope[ReleaseOut | None]:
    """Show the newest version of the phone app, or null if there is none."""
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


def release_of(session: SessionDep, release_id: ReleaseId) -> Release:
    return storage.find(session, release_id)


@router.get(
    "/download/{release_id}",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The file; a range of it as a 206",
            "content": {APK: {"schema": {"type": "string", "format": "binary"}, "example": "The bytes of the APK"}},
        },
        **refuses(503, FILE_MISSING),
    },
    summary="Download a version",
)
def download(request: Request, release: Annotated[Release, Depends(release_of)]) -> FileResponse:
    """Download the APK of a version, all of it or one range."""
    path = storage.path_of(release)
    if not path.is_file():
        raise Unavailable(FILE_MISSING)
    _forget_odd_range(request)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", release.version_name)
    headers = {"ETag": f'"{release.sha256}"', "Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(path, media_type=APK, filename=f"smsfleet-{name}.apk", headers=headers)


def _forget_odd_range(request: Request) -> None:
    """A range that is no range is as none (RFC 9110); the file answer would refuse it."""
    if not _ONE_RANGE.fullmatch(request.headers.get("range", "bytes=0-")):
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]

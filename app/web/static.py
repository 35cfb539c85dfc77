"""Scripts, styles and pictures of the pages: packed, and kept by browsers for as long as they do not change."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from app.core.errors import RouteNotFound

HERE = Path(__file__).parent
TYPES = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "htmx.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    version: str


@cache
def _file(name: str) -> _File:
    body = (HERE / "static" / name).read_bytes()
    return _File(body, gzip.compress(body, 6, mtime=0), hashlib.sha256(body).hexdigest()[:12])


def address(name: str) -> str:
    """Where a page finds a file; another address whenever the file is another one."""
    return f"/static/{_file(name).version}/{name}"


@router.get("/static/{version}/{name}")
def serve(request: Request, version: str, name: str) -> Response:
    if name not in TYPES or version != _file(name).version:
        raise RouteNotFound(request.url.path)
    found = _file(name)
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=TYPES[name], headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.body, media_type=TYPES[name], headers=headers)

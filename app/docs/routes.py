"""Serving the documents. Each is made once for an address, kept with its compressed form, and validated by its ETag."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from app.core.errors import RouteNotFound
from app.core.links import EXAMPLE_URL, base_url
from app.docs import llms
from app.docs.openapi import describe

router = APIRouter(include_in_schema=False)

_STATIC = {
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "scalar.js": "text/javascript; charset=utf-8",
}
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
# Everything on the page is ours. Styles are set by script (unsafe-inline), images may be written out in the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_ADDRESSES_KEPT = 4


@dataclass(frozen=True, slots=True)
class Served:
    """Bytes that are ready to go out."""

    body: bytes
    packed: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> "Served":
        return cls(body, gzip.compress(body, 6, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@router.get("/docs")
def page(request: Request) -> Response:
    """The page for people."""
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return _answer(request, _file("docs.html"), _HTML, headers)


@router.get("/docs/")
def page_with_slash() -> Response:
    """To the page: what it is made of is named as seen from there."""
    return RedirectResponse("../docs", 308)


@router.get("/docs/{name}")
def static(request: Request, name: str) -> Response:
    """What the page is made of."""
    if name not in _STATIC:
        raise RouteNotFound(request.url.path)
    return _answer(request, _file(name), _STATIC[name])


@router.get("/docs.openapi")
def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return _answer(request, _document(request, _as_json), _JSON, {"Access-Control-Allow-Origin": "*"})


@router.get("/llms.txt")
def llms_index(request: Request) -> Response:
    return _answer(request, _document(request, llms.index), _TEXT)


@router.get("/llms-full.txt")
def llms_full(request: Request) -> Response:
    return _answer(request, _document(request, llms.full), _TEXT)


@lru_cache
def _file(name: str) -> Served:
    return Served.of((files("app.docs") / "static" / name).read_bytes())


@lru_cache(maxsize=1)
def _described(app: FastAPI) -> dict[str, Any]:
    return describe(app)


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)


def _document(request: Request, write: Callable[[dict[str, Any]], str]) -> Served:
    return _written(request.app, write, base_url(request.scope))


@lru_cache(maxsize=3 * _ADDRESSES_KEPT)
def _written(app: FastAPI, write: Callable[[dict[str, Any]], str], address: str) -> Served:
    """A form of the document in which addresses begin with that of this installation."""
    return Served.of(write(_described(app)).replace(EXAMPLE_URL, json.dumps(address)[1:-1]).encode())


def _answer(request: Request, served: Served, media_type: str, headers: dict[str, str] | None = None) -> Response:
    headers = {
        **(headers or {}),
        "ETag": served.etag,
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if served.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(served.packed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(served.body, media_type=media_type, headers=headers)

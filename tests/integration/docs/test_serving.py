"""The documents as they are served, and samples that are really run."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.integration.conftest import Account, Gateway
from tests.support.messages_of import add_phone

DOCUMENTS = {
    "/docs": "text/html; charset=utf-8",
    "/docs/docs.js": "text/javascript; charset=utf-8",
    "/docs/docs.css": "text/css; charset=utf-8",
    "/docs/scalar.js": "text/javascript; charset=utf-8",
    "/docs.openapi": "application/json",
    "/llms.txt": "text/plain; charset=utf-8",
    "/llms-full.txt": "text/plain; charset=utf-8",
}


@pytest.mark.parametrize(("path", "kind"), DOCUMENTS.items())
def test_a_document_is_served_packed_and_asked_for_once(api: httpx.Client, path: str, kind: str) -> None:
    plain = api.get(path, headers={"Accept-Encoding": "identity"})
    packed = api.get(path, headers={"Accept-Encoding": "gzip"})
    assert (plain.status_code, plain.headers["content-type"]) == (200, kind)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content, 1)) + 1
    assert plain.headers["cache-control"] == "no-cache"
    again = api.get(path, headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = api.head(path, headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.headers["etag"]) == (200, plain.headers["etag"])


def test_the_page_may_load_nothing_from_elsewhere(api: httpx.Client) -> None:
    policy = api.get("/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*", policy)
    page = api.get("/docs").text
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_nothing_else_lies_beside_the_page(api: httpx.Client) -> None:
    for name in ("docs.html", "scalar.licence.txt", "..%2Froutes.py", "nothing"):
        assert api.get(f"/docs/{name}").status_code == 404


def test_addresses_are_those_of_this_installation(api: httpx.Client, configured: object) -> None:
    document = api.get("/docs.openapi", headers={"Host": "sms.example.org"}).json()
    assert document["servers"] == [{"url": "http://sms.example.org"}]
    configured(PUBLIC_URL="https://gateway.example.net")
    for path in ("/docs.openapi", "/llms.txt", "/llms-full.txt"):
        text = api.get(path).text
        assert "https://gateway.example.net/" in text
        assert "sms.example.com" not in text


def test_text_for_language_models_has_every_operation(api: httpx.Client) -> None:
    document = api.get("/docs.openapi").json()
    index, full = api.get("/llms.txt").text, api.get("/llms-full.txt").text
    for path, item in document["paths"].items():
        for method in item:
            assert f"`{method.upper()} {path}`" in index
            assert f": `{method.upper()} {path}`\n" in full
    assert index.startswith("# smsfleet API\n\n> ")
    assert "The recipient number field is required." in full


def run(label: str, source: str, token: str, folder: Path) -> str:
    source = source.replace("YOUR_TOKEN", token)
    if label == "curl":
        command = ["bash", "-c", source.replace("curl ", "curl -sS ", 1)]
    else:
        program, suffix = {"Python": (sys.executable, "py"), "JavaScript": ("node", "mjs")}[label]
        (folder / f"sample.{suffix}").write_text(source)
        command = [program, str(folder / f"sample.{suffix}")]
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    "label",
    [
        "Python",
        pytest.param("curl", marks=pytest.mark.needs_curl),
        pytest.param("JavaScript", marks=pytest.mark.needs_node),
    ],
)
def test_samples_do_what_they_say(
    gateway: Gateway, api: httpx.Client, ali: Account, sql: psycopg.Connection, tmp_path: Path, label: str
) -> None:
    add_phone(sql, ali, default=True)
    paths = api.get("/docs.openapi").json()["paths"]
    token = ali.headers["Authorization"].removeprefix("Bearer ")
    for path, method, telling in (
        ("/api/sms", "post", "SMS queued for sending"),
        ("/api/sms/bulk", "post", "Bulk SMS queued for sending"),
        ("/api/sms", "get", "total_exact"),
        ("/api/contacts", "get", "current_page"),
        ("/api/settings", "put", "Settings updated successfully"),
    ):
        source = next(each["source"] for each in paths[path][method]["x-codeSamples"] if each["label"] == label)
        assert telling in run(label, source, token, tmp_path), (method, path)
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (3,)
    assert sql.execute("SELECT default_region FROM users").fetchone() == ("UZ",)

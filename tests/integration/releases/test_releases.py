"""Versions of the phone app: published by the command, offered and downloaded over HTTP."""

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.settings import get_settings
from tests.support.guards import is_not_found


def apk(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("AndroidManifest.xml", b"binary")
        archive.writestr("classes.dex", content)
    return buffer.getvalue()


APK = apk(os.urandom(300_000))


@pytest.fixture
def smsfleet(servers, database, tmp_path, monkeypatch):
    """The command, as an operator runs it, and the gateway, on one data folder."""
    monkeypatch.setenv("SMSFLEET_DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "release", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    yield run
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def publish(smsfleet, tmp_path):
    file = tmp_path / "app.apk"

    def make(code: int, content: bytes = APK, *more: str, name: str = "1.0.1") -> str:
        file.write_bytes(content)
        return smsfleet("publish", str(file), "--version-name", name, "--version-code", str(code), *more)

    make.file = file
    return make


def latest(api, **headers):
    answer = api.get("/api/app/latest", headers=headers)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    return answer.json()["data"]


def test_nothing_is_offered_at_first(api, smsfleet):
    assert latest(api) is None
    assert smsfleet("list") == ""


def test_the_highest_version_is_offered_until_it_is_withdrawn(api, publish, smsfleet):
    assert "release 1 published: 1.0.1 (2)" in publish(2, APK, "--notes", "Faster", "--mandatory")
    publish(1, apk(b"older"))
    assert latest(api) == {
        "version_name": "1.0.1",
        "version_code": 2,
        "release_notes": "Faster",
        "mandatory": True,
        "apk_url": f"{api.base_url}/api/app/download/1".replace("//api", "/api"),
        "apk_size": len(APK),
    }
    listed = smsfleet("list").splitlines()
    assert [line.split()[0] for line in listed] == ["1", "2"]
    assert "offered" in listed[0]
    assert "active" in listed[1]
    assert smsfleet("withdraw", "1") == "release 1 withdrawn\n"
    assert (latest(api)["version_code"], latest(api)["release_notes"], latest(api)["mandatory"]) == (1, "", False)
    assert is_not_found(api.get("/api/app/download/1"), "Release")
    assert "there is no active release 1" in smsfleet("withdraw", "1", code=1)
    assert "withdrawn" in smsfleet("list").splitlines()[0]


def test_the_address_by_public_url_else_by_the_request(api, publish, configured):
    publish(1)
    assert latest(api, Host="sms.example.com")["apk_url"] == "http://sms.example.com/api/app/download/1"
    configured(PUBLIC_URL="https://gate.example.com/")
    assert latest(api)["apk_url"] == "https://gate.example.com/api/app/download/1"


def test_the_file_whole_and_in_part(api, publish):
    publish(1, name="1.0 béta/2")
    answer = api.get(latest(api)["apk_url"])
    assert (answer.status_code, answer.content) == (200, APK)
    assert answer.headers["content-type"] == "application/vnd.android.package-archive"
    assert answer.headers["content-disposition"] == 'attachment; filename="smsfleet-1.0-b-ta-2.apk"'
    assert answer.headers["content-length"] == str(len(APK))
    assert answer.headers["etag"] == f'"{hashlib.sha256(APK).hexdigest()}"'
    path = "/api/app/download/1"
    for asked, status, content in (
        ("bytes=100-199", 206, APK[100:200]),
        ("bytes=299000-", 206, APK[299_000:]),
        ("bytes=-10", 206, APK[-10:]),
        ("bytes=x", 200, APK),
        ("lines=1-2", 200, APK),
        ("bytes=0-1,5-9", 200, APK),
    ):
        part = api.get(path, headers={"Range": asked})
        assert (part.status_code, part.content) == (status, content), asked
    assert api.get(path, headers={"Range": "bytes=400000-"}).status_code == 416
    head = api.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(APK)))


@pytest.mark.parametrize("name", ["0", "2", "x", "-1", "99999999999999999999"])
def test_unknown_releases(api, publish, name):
    publish(1)
    assert is_not_found(api.get(f"/api/app/download/{name}"), "Release")


def test_a_file_that_is_not_there(api, publish, tmp_path):
    publish(1)
    for file in (tmp_path / "data" / "releases").iterdir():
        file.unlink()
    answer = api.get("/api/app/download/1")
    assert (answer.status_code, answer.json()["success"]) == (503, False)


def test_two_versions_may_share_a_file_and_nothing_is_left_behind(api, publish, smsfleet, tmp_path):
    publish(1)
    publish(2)
    [file] = (tmp_path / "data" / "releases").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (f"{hashlib.sha256(APK).hexdigest()}.apk", 0o644)
    smsfleet("withdraw", "2")
    assert api.get("/api/app/download/1").content == APK


def test_what_is_refused(smsfleet, tmp_path):
    options = ("--version-name", "1", "--version-code", "1")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("readme.txt", "no app")
    for content in (b"", b"x", b"PK\x03\x04" + os.urandom(1000), archive.getvalue(), APK[:-30]):
        file = tmp_path / "wrong.apk"
        file.write_bytes(content)
        # The terminal's frame breaks the sentence where it likes.
        assert "isnotanAPK" in re.sub(r"[\s│]+", "", smsfleet("publish", str(file), *options, code=2))
    smsfleet("publish", str(tmp_path / "none.apk"), *options, code=2)
    file = tmp_path / "some.apk"
    file.write_bytes(APK)
    smsfleet("publish", str(file), "--version-name", " ", "--version-code", "1", code=2)
    smsfleet("publish", str(file), "--version-name", "1", "--version-code", "0", code=2)
    assert smsfleet("list") == ""


def test_a_version_code_is_offered_once(publish, smsfleet):
    publish(7)
    file = publish.file
    arguments = ("publish", str(file), "--version-name", "1.0.2", "--version-code", "7")
    assert "version code 7 is already published" in smsfleet(*arguments, code=1)
    smsfleet("withdraw", "1")
    with ThreadPoolExecutor(2) as pool:
        commands = [pool.submit(smsfleet_anyhow, *arguments) for _ in range(2)]
    assert sorted(command.result() for command in commands) == [0, 1], "of two at once one is offered"
    assert len([line for line in smsfleet("list").splitlines() if "offered" in line]) == 1


def smsfleet_anyhow(*arguments: str) -> int:
    command = [sys.executable, "-m", "app.cli", "release", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode

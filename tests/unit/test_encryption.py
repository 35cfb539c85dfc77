"""Encrypted backups: what comes out is what went in, or nothing and a sentence."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyrage
import pytest

from app.local.encryption import encrypting, opened
from app.local.errors import LocalError

# More than two of age's chunks of 64 KiB; where the first and the second end in the file.
PLAIN = os.urandom(2 * 65536 + 1000)
CHUNK = 65536 + 16


@pytest.fixture
def key(tmp_path: Path) -> Path:
    secret = pyrage.x25519.Identity.generate()
    file = tmp_path / "key.txt"
    file.write_text(f"# public key: {secret.to_public()}\n{secret}\n")
    return file


@pytest.fixture
def backup(tmp_path: Path, key: Path) -> Path:
    file = tmp_path / "backup.age"
    with file.open("wb") as target:
        encrypt(target, public_key(key), (PLAIN[start : start + 1000] for start in range(0, len(PLAIN), 1000)))
    return file


def public_key(key: Path) -> str:
    return key.read_text().split()[3]


def read(file: Path, key: Path | None) -> bytes:
    with opened(file, key) as plain:
        return plain.read()


def test_who_has_the_key_reads_it_and_nobody_else(backup: Path, key: Path, tmp_path: Path) -> None:
    assert read(backup, key) == PLAIN
    assert PLAIN[:64] not in backup.read_bytes()
    other = tmp_path / "other.txt"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(LocalError, match=r"does not open .*: No matching keys found"):
        read(backup, other)
    with pytest.raises(LocalError, match="is encrypted: name the file with its secret key"):
        read(backup, None)
    other.write_text("# lost\nAGE-SECRET-KEY-1\n")
    with pytest.raises(LocalError, match="holds no secret key"):
        read(backup, other)


def test_what_was_cut_short_or_changed_is_read_by_nobody(backup: Path, key: Path) -> None:
    whole = backup.read_bytes()
    payload = len(whole) - len(PLAIN) - 3 * 16
    cuts = [whole[:end] for end in (payload - 20, payload, payload + CHUNK, payload + 2 * CHUNK, len(whole) - 1)]
    first, second = whole[payload : payload + CHUNK], whole[payload + CHUNK : payload + 2 * CHUNK]
    changed = [flipped(whole, at) for at in (40, payload - 30, payload, payload + CHUNK + 5, len(whole) - 1)]
    swapped = whole[:payload] + second + first + whole[payload + 2 * CHUNK :]
    for spoilt in (*cuts, *changed, swapped, whole + b"x"):
        backup.write_bytes(spoilt)
        with pytest.raises(LocalError, match=r"was cut short or changed|does not open"):
            read(backup, key)


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


class FullDisk(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_writing_with_its_reason(key: Path) -> None:
    with pytest.raises(LocalError, match="No space left on device"):
        encrypt(FullDisk(), public_key(key), [PLAIN] * 100)


def encrypt(target: BinaryIO, public: str, parts: Iterable[bytes]) -> None:
    with encrypting(target, public) as plain:
        for part in parts:
            plain.write(part)


def test_what_ends_the_writing_early_is_told_as_it_is(key: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        encrypt(io.BytesIO(), public_key(key), (bytes(1000 // (3 - n)) for n in range(4)))


def test_what_is_not_encrypted_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "plain.zip").write_bytes(PLAIN)
    assert read(tmp_path / "plain.zip", None) == PLAIN

"""Encrypted backups are files of age (age-encryption.org/v1), which its own program opens too.

The gateway knows the public key alone: who takes its machine cannot read the backups that were made on it.
"""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import pyrage

from app.core.settings import get_settings
from app.local.errors import LocalError

_BEGINS = b"age-encryption.org/"


@contextmanager
def encrypting(target: BinaryIO, public_key: str) -> Iterator[BinaryIO]:
    """A file to write to; what was written stands in `target`, encrypted, once it is left. Raises `LocalError`."""
    recipient = pyrage.x25519.Recipient.from_str(public_key)
    reading, writing = os.pipe()

    def encrypt() -> None:
        with os.fdopen(reading, "rb") as plain:
            try:
                pyrage.encrypt_io(plain, target, [recipient])
            except pyrage.EncryptError as error:
                raise LocalError(f"the encrypted backup cannot be written: {error}") from None

    with ThreadPoolExecutor(1) as pool:
        encrypted = pool.submit(encrypt)
        try:
            with os.fdopen(writing, "wb") as plain:
                yield plain
        except BrokenPipeError:  # nobody reads any more
            encrypted.result()
            raise
        encrypted.result()


@contextmanager
def opened(source: Path, key: Path | None) -> Iterator[IO[bytes]]:
    """The file as it was before it was encrypted, if it was. Raises `LocalError` before anything of it can be read.

    `key` is a file with the secret key. What is decrypted lies in a nameless file in the data folder meanwhile.
    """
    with source.open("rb") as file:
        encrypted = file.read(len(_BEGINS)) == _BEGINS
        file.seek(0)
        if not encrypted:
            yield file
            return
        if key is None:
            raise LocalError(f"{source} is encrypted: name the file with its secret key (--key)")
        folder = get_settings().data_dir
        with tempfile.TemporaryFile(dir=folder if folder.is_dir() else None) as plain:
            _decrypt(file, plain, key)
            plain.seek(0)
            yield plain


def _decrypt(source: BinaryIO, target: IO[bytes], key: Path) -> None:
    lines = key.read_text(errors="replace").split("\n")
    try:
        secrets = [pyrage.x25519.Identity.from_str(line.strip()) for line in lines if line.strip() and line[0] != "#"]
    except pyrage.IdentityError:
        secrets = []
    if not secrets:
        raise LocalError(f"{key} holds no secret key of age, which begins with AGE-SECRET-KEY-")
    try:
        pyrage.decrypt_io(source, target, secrets)
    except pyrage.DecryptError as error:
        raise LocalError(f"the key in {key} does not open {source.name}: {error}") from None
    except OSError as error:
        if error.errno is not None:  # of the disk
            raise
        raise LocalError(f"{source.name} was cut short or changed since it was made") from None

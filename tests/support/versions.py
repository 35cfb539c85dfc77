"""Earlier versions of smsfleet, as far as the history that is here has them."""

import shutil
import subprocess
from pathlib import Path

# Where the changelog of version 0.1.0 was written.
PREVIOUS = "e83088e"
CHECKOUT = Path(__file__).parents[2]


def has_version(name: str) -> bool:
    """Whether a tag or commit is there: a shallow clone, or a folder without history, has none."""
    command = ["git", "cat-file", "-e", f"{name}^{{commit}}"]
    has_git = shutil.which("git") is not None
    return has_git and subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False).returncode == 0


def unpack(name: str, folder: Path) -> None:
    """The programs of that version, as they were committed."""
    folder.mkdir()
    command = ["git", "archive", name, "app", "workers", "phones"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
    assert archive.returncode == 0

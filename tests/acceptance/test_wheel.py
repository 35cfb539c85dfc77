"""The wheel, installed into an environment of its own, runs from anywhere."""

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which sees the packages of this one but not this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    # What the build leaves beside its source must not lie in the checkout.
    source = folder / "source"
    subprocess.run(["git", "-C", ROOT, "checkout-index", "--all", f"--prefix={source}/"], check=True)
    subprocess.run([*build, str(source)], check=True)
    [wheel] = folder.glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    subprocess.run([*pip, "--python", environment, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not read
    return environment


def run(environment: Path, folder: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SMSFLEET_", "PYTHON"))}
    ran = subprocess.run(
        [environment / "bin" / "smsfleet", *arguments], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_it_is_complete(installed: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(installed, tmp_path, "--version") == f"smsfleet {version}\n"
    [packages] = installed.glob("lib/python*/site-packages")
    for package in ("app", "workers", "phones"):
        ours = subprocess.run(["git", "ls-files", package], cwd=ROOT, capture_output=True, text=True, check=True)
        missing = {name for name in ours.stdout.split() if not (packages / name).exists()}
        assert {name for name in missing if not name.endswith((".po", ".pot"))} == set()


def test_the_demo_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    said = run(installed, tmp_path, "demo", "--messages", "10", "--phones", "1")
    assert "lost" in said
    assert list(tmp_path.iterdir()) == []

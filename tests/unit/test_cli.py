"""The `smsfleet` command itself."""

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from app.cli import app


def test_version():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    printed = CliRunner().invoke(app, ["--version"])
    assert (printed.exit_code, printed.stdout) == (0, f"smsfleet {project['version']}\n")

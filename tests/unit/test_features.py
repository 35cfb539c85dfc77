"""Every package announces itself, and what it announces is there."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.features import PACKAGES

APP = Path(__file__).parents[2] / "app"


def test_every_package_with_routes_or_tables_is_listed():
    there = {file.parent.name for name in ("routes.py", "models.py") for file in APP.glob(f"*/{name}")}
    assert there <= {package.name for package in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_what_it_announces_is_there(package):
    for module in package.routes:
        router = import_module(f"app.{package.name}.{module}").router
        assert set(router.tags) == ({package.tag} if package.tag else set())
    assert (APP / package.name / "models.py").exists() == package.models
    if package.tasks:
        assert find_spec(package.tasks)
    for group in package.commands:
        assert hasattr(import_module(f"app.{package.name}.commands"), f"{group}_app")

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.accounts.token_use import write_token_usage
from app.core.settings import get_settings
from app.local.home import open_home
from tests.acceptance.running import Up
from tests.conftest import Servers


@pytest.fixture(scope="module", autouse=True)
def _own_installations(servers: Servers) -> Iterator[None]:
    """What these tests start has servers of its own, not those of this test process, which are there by then."""
    write_token_usage()  # else a thread of the API in this process writes it soon, to servers that are nowhere then
    before = {name: value for name, value in os.environ.items() if name.startswith("SMSFLEET_")}
    for name in before:
        del os.environ[name]
    get_settings.cache_clear()
    yield
    os.environ.update(before)
    get_settings.cache_clear()  # read meanwhile, they would be those of nowhere


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `smsfleet up`; all that still runs of it at the end of the test is ended."""
    started: list[Up] = []

    def start(*prefix: str, data_dir: Path = tmp_path / "data", **env: str) -> Up:
        started.append(Up(data_dir, *prefix, **env))
        return started[-1]

    yield start
    for one in started:
        if one.popen.poll() is None:
            one.end()
        for server in ("postgres", "valkey", "app"):  # as root they lie outside of the data folder
            open_home(one.data_dir, server, temporary=True).remove()

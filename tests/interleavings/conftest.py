"""One database for all pairs of a module, without what the tests before have left in it."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Servers, empty


@pytest.fixture(scope="module")
def emptied(servers: Servers) -> Servers:
    """Marks are made for all phones that there are, in turn: with many others a try would end before its own turn."""
    empty(servers)
    return servers


@pytest.fixture(scope="module")
def observer(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
        yield connection

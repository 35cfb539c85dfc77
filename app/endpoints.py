"""`make endpoints`: the table of all endpoints, and which function in which file answers each."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi.routing import iter_route_contexts

from app.devices.streams import Streams
from app.main import create_api, direct_calls
from app.messages.dispatch import waking

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "developing" / "endpoints.md"
_INTRODUCTION = """\
# Endpoints

Made by `make endpoints`. Tests are in `tests/integration/<package>/`.

| endpoint | function | file |
| --- | --- | --- |
"""


def endpoints() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every endpoint and the function that answers it: those in plain ASGI, which come first, and FastAPI's routes."""
    found = {f"{call.method} {call.path}": call.handler for call in direct_calls(Streams(waking.due))}
    yield from found.items()
    for route in iter_route_contexts(create_api().routes):
        endpoint = getattr(route.original_route, "endpoint", None)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if endpoint is not None and f"{method} {route.path}" not in found:
                yield f"{method} {route.path}", endpoint


def page() -> str:
    """The page, as it should be."""
    rows = []
    for endpoint, function in endpoints():
        file = Path(inspect.getfile(function)).relative_to(ROOT)
        rows.append(f"| `{endpoint}` | `{function.__name__}` | [{file}](../../{file}) |\n")
    return _INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())

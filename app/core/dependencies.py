"""What routes take from the core as dependencies of FastAPI, which workers never load."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Generic
from urllib.parse import parse_qsl

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator
from sqlalchemy.orm import Session

from app.core.bodies import parse_body
from app.core.database import transaction
from app.core.heavy import Heavy
from app.core.links import base_url
from app.core.pages import MAX_PER_PAGE, PER_PAGE, Paging, page_number
from app.core.throttling import hit, network
from app.core.validation import Integer, Model, read


def get_session() -> Iterator[Session]:
    with transaction() as session:
        yield session


# "function" scope: the commit happens before the answer is sent, so a failed commit is a failed request.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def _paging(
    request: Request,
    page: Annotated[int, BeforeValidator(page_number), Query(description="From 1; invalid values mean page 1")] = 1,
    per_page: Annotated[Integer, Query(ge=1, le=MAX_PER_PAGE, description="Items per page")] = PER_PAGE,
) -> Paging:
    query = request.scope["query_string"].decode("latin-1")
    others = tuple(pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "page")
    return Paging(page, per_page, base_url(request.scope) + request.scope["path"], others)


PagingDep = Annotated[Paging, Depends(_paging)]


@dataclass(frozen=True, slots=True)
class Large(Generic[Model]):
    """Dependency for the routes with large bodies, which are heavy calls: reads and validates as they work.

    Declare it after the dependencies that look up user and row.
    """

    model: type[Model]

    async def __call__(self, request: Request) -> Model:
        state = request.state
        if state.body_error is not None:
            raise state.body_error
        heavy: Heavy = state.heavy
        return await heavy.run(lambda: read(self.model, parse_body(state.raw_body, state.content_type)))


def per_address(name: str, most: int) -> Callable[[Request], None]:
    """Dependency: at most `most` tries a minute from one network address."""

    def tried(request: Request) -> None:
        hit(name, network(request.client.host if request.client else None), most)

    return tried

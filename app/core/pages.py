"""Pagination with every key of Laravel's paginator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from app.core.envelope import Named
from app.core.links import EXAMPLE_URL

Item = TypeVar("Item")

PER_PAGE = 50
MAX_PER_PAGE = 200
_LAST_REACHABLE = 2**53
_AROUND = 3
_SHORT = 8
_PAGE_URL = f"{EXAMPLE_URL}/api/sms?page=1"


class PageLink(BaseModel):
    url: str | None = Field(examples=[_PAGE_URL])
    label: str = Field(examples=["1"])
    page: int | None = Field(examples=[1])
    active: bool


class Page(Named, Generic[Item]):
    """One page of a list: the answer's `data`, which holds the items as its own `data`."""

    suffix = "Page"

    current_page: int = Field(examples=[1])
    data: list[Item]
    first_page_url: str = Field(examples=[_PAGE_URL])
    first: int | None = Field(serialization_alias="from", examples=[1])
    last_page: int = Field(examples=[1])
    last_page_url: str = Field(examples=[_PAGE_URL])
    links: list[PageLink]
    next_page_url: str | None = Field(examples=[None])
    path: str = Field(examples=[_PAGE_URL.partition("?")[0]])
    per_page: int = Field(examples=[50])
    prev_page_url: str | None = Field(examples=[None])
    to: int | None = Field(examples=[1])
    total: int = Field(examples=[1])


def page_number(value: Any) -> int:
    text = str(value).strip()
    return min(max(int(text), 1), _LAST_REACHABLE) if text.isascii() and text.isdigit() and len(text) < 20 else 1  # noqa: PLR2004 - a bigint


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page the client asks for, and the address that links to other pages are made of."""

    page: int
    per_page: int
    path: str
    query: tuple[tuple[str, str], ...]

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page

    def url(self, page: int) -> str:
        return f"{self.path}?{urlencode([*self.query, ('page', page)])}"

    def fields(self, items: Sequence[Any], total: int) -> dict[str, Any]:
        """The keys of `Page` for the `items` of this page among `total`."""
        last = max(1, -(-total // self.per_page))
        has_next, has_previous = self.page < last, self.page > 1
        return {
            "current_page": self.page,
            "data": list(items),
            "first_page_url": self.url(1),
            "first": self.offset + 1 if items else None,
            "last_page": last,
            "last_page_url": self.url(last),
            "links": self._links(last),
            "next_page_url": self.url(self.page + 1) if has_next else None,
            "path": self.path,
            "per_page": self.per_page,
            "prev_page_url": self.url(self.page - 1) if has_previous else None,
            "to": self.offset + len(items) if items else None,
            "total": total,
        }

    def _links(self, last: int) -> list[PageLink]:
        def link(page: int | None, label: str) -> PageLink:
            return PageLink(
                url=None if page is None else self.url(page), label=label, page=page, active=label == str(self.page)
            )

        numbered = [link(None, "...") if page is None else link(page, str(page)) for page in _window(self.page, last)]
        previous = link(self.page - 1 if self.page > 1 else None, "&laquo; Previous")
        following = link(self.page + 1 if self.page < last else None, "Next &raquo;")
        return [previous, *numbered, following]


def _window(page: int, last: int) -> list[int | None]:
    """Page numbers to show: all of few, else both ends and some around the current one, None for a gap."""
    span = _AROUND * 2
    if last < span + _SHORT:
        return list(range(1, last + 1))
    start, end = [1, 2], [last - 1, last]
    if page <= span + 1:
        return [*range(1, span + 5), None, *end]
    if page > last - span - 1:
        return [*start, None, *range(last - span - 3, last + 1)]
    return [*start, None, *range(page - _AROUND, page + _AROUND + 1), None, *end]

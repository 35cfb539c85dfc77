"""Pages of lists: which one a visitor asks for, and the filters that the address has."""

from datetime import date, datetime, time
from urllib.parse import parse_qsl

from app.core.pages import PER_PAGE, Paging, page_number
from app.core.validation import Model, read
from app.web.visits import Visit


def paging(visit: Visit, per_page: int = PER_PAGE, path: str | None = None) -> Paging:
    """The page that the address names, with links that keep its filters. `path`: the list's own, where what was posted
    elsewhere is answered with it too.
    """
    query = str(visit.request.url.query)
    others = tuple(pair for pair in parse_qsl(query) if pair[0] not in {"page", "done"})
    return Paging(page_number(visit.query("page") or 1), per_page, path or visit.request.url.path, others)


def wanted(visit: Visit, model: type[Model], *names: str) -> Model:
    """The filter that the address asks for; what is left empty is none. Raises `Invalid`."""
    given = {name: visit.query(name) for name in names}
    return read(model, {name: value for name, value in given.items() if value.strip()})


_DAYS = {"from": time.min, "to": time.max}


def moments(visit: Visit) -> dict[str, str]:
    """From when until when: the days that the address names, by the account's clock, as filters read them."""
    return {name: _moment(visit, name) for name in _DAYS}


def _moment(visit: Visit, name: str) -> str:
    typed = visit.query(name)
    try:
        return datetime.combine(date.fromisoformat(typed), _DAYS[name], visit.zone).isoformat()
    except ValueError:
        return typed

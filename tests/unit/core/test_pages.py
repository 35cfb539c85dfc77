import pytest

from app.core.pages import Page, Paging


def page(number, total, per_page=10):
    paging = Paging(number, per_page, "http://x/api/sms", (("status", "sent"),))
    on_it = max(0, min(per_page, total - paging.offset))
    return Page[int](**paging.fields(list(range(on_it)), total)).model_dump(by_alias=True)


def test_every_key_of_laravels_paginator():
    assert page(2, 25) == {
        "current_page": 2,
        "data": list(range(10)),
        "first_page_url": "http://x/api/sms?status=sent&page=1",
        "from": 11,
        "last_page": 3,
        "last_page_url": "http://x/api/sms?status=sent&page=3",
        "links": [
            {"url": "http://x/api/sms?status=sent&page=1", "label": "&laquo; Previous", "page": 1, "active": False},
            {"url": "http://x/api/sms?status=sent&page=1", "label": "1", "page": 1, "active": False},
            {"url": "http://x/api/sms?status=sent&page=2", "label": "2", "page": 2, "active": True},
            {"url": "http://x/api/sms?status=sent&page=3", "label": "3", "page": 3, "active": False},
            {"url": "http://x/api/sms?status=sent&page=3", "label": "Next &raquo;", "page": 3, "active": False},
        ],
        "next_page_url": "http://x/api/sms?status=sent&page=3",
        "path": "http://x/api/sms",
        "per_page": 10,
        "prev_page_url": "http://x/api/sms?status=sent&page=1",
        "to": 20,
        "total": 25,
    }


def test_empty_and_past_the_end():
    for empty in (page(1, 0), page(9, 25)):
        assert (empty["data"], empty["from"], empty["to"], empty["next_page_url"]) == ([], None, None, None)
    assert (page(1, 0)["last_page"], page(9, 25)["last_page"], page(9, 25)["total"]) == (1, 3, 25)


@pytest.mark.parametrize(
    ("number", "labels"),
    [
        (1, "1 2 3 4 5 6 7 8 9 10 ... 29 30"),
        (7, "1 2 3 4 5 6 7 8 9 10 ... 29 30"),
        (8, "1 2 ... 5 6 7 8 9 10 11 ... 29 30"),
        (15, "1 2 ... 12 13 14 15 16 17 18 ... 29 30"),
        (24, "1 2 ... 21 22 23 24 25 26 27 28 29 30"),
        (30, "1 2 ... 21 22 23 24 25 26 27 28 29 30"),
        (500, "1 2 ... 21 22 23 24 25 26 27 28 29 30"),
    ],
)
def test_few_links_of_many_pages(number, labels):
    assert " ".join(link["label"] for link in page(number, 300)["links"][1:-1]) == labels


def test_thirteen_pages_are_all_shown():
    assert len(page(1, 130)["links"]) == 15

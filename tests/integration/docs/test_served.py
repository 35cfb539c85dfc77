"""The documents are there, for everybody, and once a client has them they are not sent again."""

import pytest

SERVED = {
    "/docs": "text/html; charset=utf-8",
    "/docs/docs.css": "text/css; charset=utf-8",
    "/docs/docs.js": "text/javascript; charset=utf-8",
    "/docs/scalar.js": "text/javascript; charset=utf-8",
    "/docs.openapi": "application/json",
    "/llms.txt": "text/plain; charset=utf-8",
    "/llms-full.txt": "text/plain; charset=utf-8",
}


@pytest.mark.parametrize("path", SERVED)
def test_served_whole_and_then_not_again(api, path):
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, SERVED[path])
    assert answer.content
    assert api.get(path, headers={"Accept-Encoding": "identity"}).content == answer.content
    again = api.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_with_a_slash(api):
    for method in ("GET", "HEAD"):
        answer = api.request(method, "/docs/", follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, "/docs")
    assert api.get("/docs/", follow_redirects=True).content == api.get("/docs").content


def test_nothing_else_is_there(api):
    for path in ("/docs/docs.html", "/docs/..%2f__init__.py", "/docs/none"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["success"]) == (404, False)

import ast
import threading
from pathlib import Path

from app.core.once import once

_APP = Path(__file__).parents[3] / "app"


def test_threads_that_call_first_together_get_one_object() -> None:
    begin = threading.Barrier(8)
    entered = threading.Event()

    @once
    def made() -> object:
        entered.wait(1)
        return object()

    got: list[object] = []

    def call() -> None:
        begin.wait()
        entered.set()
        got.append(made())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert set(map(id, got)) == {id(made.made)}


def test_nothing_is_made_by_asking_whether_it_was() -> None:
    calls: list[int] = []

    @once
    def made() -> list[int]:
        calls.append(1)
        return calls

    assert made.made is None
    assert calls == []
    assert made() is made.made
    made.cache_clear()
    assert made.made is None


def test_what_a_process_has_one_of_is_made_by_once() -> None:
    """A cache runs a function twice where two threads call first; settings may be read twice."""
    cached = {
        f"{path.relative_to(_APP)}:{function.name}"
        for path in _APP.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and not function.args.args
        for decorator in function.decorator_list
        if ast.unparse(decorator).partition("(")[0] in {"lru_cache", "cache"}
    }
    assert cached == {"core/settings.py:get_settings"}

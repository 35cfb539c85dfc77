"""Rules for the SQL that stands in strings, where no linter reads it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.database import Base
from app.migrations.tables import load_tables

load_tables()

ROOT = Path(__file__).parents[2]
# Each package may name its own tables and those of packages below it.
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = [name for layer in reversed(CONTRACTS[0]["layers"]) for name in re.findall(r"\bapp\.(\w+)", layer)]
# What goes the other way, and why.
UPWARD = {
    (
        "accounts/account.py",
        "devices",
    ): "the account's overview says how many phones it has, and what its default costs",
    ("webhooks/history.py", "messages"): "deliveries are searched by the message's UUID, which their rows do not have",
}


@dataclass(frozen=True)
class Text:
    """A string of a module, without docstrings; of an f-string, what is inserted is `{…}`."""

    path: Path
    line: int
    value: str

    @property
    def package(self) -> str:
        return self.path.relative_to(ROOT / "app").parts[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def _strings(path: Path) -> Iterator[Text]:
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in docstrings or id(node) in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in node.values]
            yield Text(path, node.lineno, "".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(path, node.lineno, node.value)


TEXTS = [
    text
    for path in sorted((ROOT / "app").rglob("*.py"))
    if "versions" not in path.parts  # migrations are as they were when they ran
    for text in _strings(path)
]
# Keywords stand in capitals; sentences for people have none of these pairs.
SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN|WHERE|FOR NO KEY UPDATE|COALESCE|CASE WHEN)\b")
STATEMENTS = [text for text in TEXTS if SQL.search(text.value)]


def _offenders(pattern: str, texts: list[Text] = STATEMENTS) -> list[str]:
    return [f"{text}: {found.group()}" for text in texts for found in re.finditer(pattern, text.value)]


OWNERS = {
    table.name: mapper.class_.__module__.split(".")[1] for mapper in Base.registry.mappers for table in mapper.tables
}
NAMED = re.compile(rf"(?:\b(?:FROM|JOIN|INTO|UPDATE|USING|TABLE|ONLY)|,)\s+({'|'.join(OWNERS)})\b")


def test_a_package_names_its_own_tables_and_those_of_packages_below_it() -> None:
    upward: dict[str, set[str]] = {}
    for text in STATEMENTS:
        for table in NAMED.findall(text.value):
            if LAYERS.index(OWNERS[table]) > LAYERS.index(text.package):
                upward.setdefault(str(text.path.relative_to(ROOT / "app")), set()).add(OWNERS[table])
    assert {(module, " ".join(sorted(packages))) for module, packages in upward.items()} == UPWARD.keys()


def test_every_table_belongs_to_a_package_that_names_it() -> None:
    used = {(table, text.package) for text in STATEMENTS for table in NAMED.findall(text.value)}
    classes = {mapper.class_.__name__: table.name for mapper in Base.registry.mappers for table in mapper.tables}
    for path in (ROOT / "app").rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        package = path.relative_to(ROOT / "app").parts[0]
        used |= {(table, package) for name, table in classes.items() if name in names and path.name != "models.py"}
    assert {(table, owner) for table, owner in OWNERS.items() if (table, owner) not in used} == set()


# One row by its key, or a join that is locked by one.
BY_KEY = re.compile(
    r"(?:WHERE|AND)\s+(?:[a-z]+\.)?(?:id|user_id|device_id|message_id|code|token_id)\s*=\s*:[a-z_]+"
    r"|held_campaigns(?: h)? WHERE (?:h\.)?campaign_id ="
)
LOCK = re.compile(r"\bFOR (?:NO KEY UPDATE|UPDATE|SHARE|KEY SHARE)\b(?: OF \w+)?( SKIP LOCKED| NOWAIT)?")


def test_a_lock_says_in_which_order_it_is_taken_or_that_it_waits_for_nobody() -> None:
    unordered = []
    for text in STATEMENTS:
        for lock in LOCK.finditer(text.value):
            before = text.value[: lock.start()]
            query = before[max(before.rfind("SELECT"), 0) :]
            if not (lock[1] or "ORDER BY" in query or BY_KEY.search(query)):
                unordered.append(str(text.path.relative_to(ROOT / "app")))
    assert unordered == []


def test_locks_of_the_orm_say_so_too() -> None:
    locking = {
        f"{path.relative_to(ROOT)}:{function.name}": ast.unparse(function)
        for path in (ROOT / "app").rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and "with_for_update" in ast.unparse(function)
    }
    one_row = r"\.get(?:_one)?\(|\.(?:id|google_subject|phone_number) == |is_address\("
    assert locking
    assert [name for name, code in locking.items() if not re.search(rf"order_by\(|skip_locked=|{one_row}", code)] == []


def test_conditional_expressions_are_keywords_and_functions_are_not() -> None:
    """As PostgreSQL's manual has them."""
    assert _offenders(r"\b(?:coalesce|nullif|greatest|least|cast|exists|extract)\s*\(", TEXTS) == []
    assert (
        _offenders(r"\b(?:COUNT|SUM|MIN|MAX|NOW|CLOCK_TIMESTAMP|UNNEST|LOWER|LENGTH|ROW_NUMBER|ARRAY_AGG)\s*\(", TEXTS)
        == []
    )


def test_the_row_that_was_to_be_inserted_is_spelled_small() -> None:
    assert _offenders(r"\bEXCLUDED\b", TEXTS) == []


def test_types_are_cast_by_cast() -> None:
    assert _offenders(r"::\s*[a-z]+") == []


def test_types_of_array_parameters_come_from_the_models() -> None:
    assert _offenders(r"CAST\(\s*:\w+ AS [a-z0-9 ]+\[\]", [t for t in TEXTS if t.path.name != "arrays.py"]) == []


def test_stages_and_lanes_stand_in_sql_by_name() -> None:
    assert _offenders(r"\b(?:stage|lane)\s*(?:=|<>|<|>|IN)\s*\(?\s*\d") == []


def test_rules_find_what_they_are_for() -> None:
    assert len(STATEMENTS) > 150
    assert {"users", "messages", "message_queue", "devices"} <= {
        table for text in STATEMENTS for table in NAMED.findall(text.value)
    }

"""The documents of the repository: links lead somewhere, and every decision is dated and listed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\[[^\]]*\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(page):
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert missing == []


def test_decisions_are_numbered_dated_and_listed():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for number, decision in enumerate(DECISIONS, 1):
        lines = decision.read_text().splitlines()
        assert decision.name.startswith(f"{number:03}-"), decision.name
        assert re.fullmatch(rf"# {number}\. .+", lines[0]), decision.name
        assert re.match(r"Date: \d{4}-\d\d-\d\d\. Status: (accepted|replaced by decision \d+)\.", lines[2]), (
            decision.name
        )
        assert f"| {number} | [{lines[0].split('. ', 1)[1]}]({decision.name}) |" in index, decision.name


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES:
        if page.parent.parent == ROOT / "docs" and page.parent.name in {"using", "operating", "developing"}:
            assert f"({page.parent.name}/{page.name})" in index, page

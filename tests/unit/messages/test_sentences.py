"""The table of sentences."""

import ast
import re
from pathlib import Path

import app.messages
from app.messages.life.sentences import LIMIT_CODES, SENTENCES


def test_every_limit_has_its_sentence():
    assert set(SENTENCES) >= LIMIT_CODES


def test_every_sentence_is_a_whole_one():
    for code, sentence in SENTENCES.items():
        assert re.fullmatch(r"[A-Z{].+\.", sentence), code


def test_every_code_that_the_timeline_names_is_there():
    source = Path(app.messages.__path__[0], "life", "timeline.py").read_text()
    calls = [
        node.args[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reason"
    ]
    named = {node.value for node in calls if isinstance(node, ast.Constant)}
    assert named
    assert named <= set(SENTENCES)

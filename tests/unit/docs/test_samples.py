"""Every sample is a program: its language reads it, and it says what the document says."""

import ast
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.core.links import EXAMPLE_URL as HOST
from app.docs.openapi import describe, operations
from app.docs.samples import Request, curl, javascript, php, python
from app.main import create_api

OPERATIONS = {key: operation for key, _, operation in operations(describe(create_api()))}
HARD = {
    "text": 'It\'s "5 €" \\ $x {y}\nnext',
    "none": None,
    "yes": True,
    "list": [1, 2.5, {"a": []}],
    "long": ["x" * 50] * 3,
}


def source(operation: dict[str, Any], label: str) -> str:
    return next(each["source"] for each in operation["x-codeSamples"] if each["label"] == label)


def body_of(operation: dict[str, Any]) -> Any:
    return operation["requestBody"]["content"]["application/json"]["example"] if "requestBody" in operation else None


@pytest.mark.parametrize("key", OPERATIONS)
def test_python(key: str) -> None:
    tree = ast.parse(source(OPERATIONS[key], "Python"))
    call = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    given = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
    assert call.func.attr.upper() == key.split(maxsplit=1)[0]
    assert ast.literal_eval(call.args[0]).startswith(HOST)
    assert given.get("json") == body_of(OPERATIONS[key])


@pytest.mark.parametrize("key", OPERATIONS)
def test_curl(key: str) -> None:
    words = shlex.split(source(OPERATIONS[key], "curl").replace("\\\n", " "))
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
    assert (words[0], method, body) == ("curl", key.split(maxsplit=1)[0], body_of(OPERATIONS[key]))


def test_python_and_curl_write_any_value() -> None:
    request = Request("POST", f"{HOST}/x", {}, HARD)
    call = ast.parse(python(request)).body[1].value
    assert ast.literal_eval(call.keywords[0].value) == HARD
    assert json.loads(shlex.split(curl(request).replace(" \\\n", " "))[-1]) == HARD


@pytest.mark.needs_node
def test_javascript(tmp_path: Path) -> None:
    """All are read; what one would send is looked at without sending it."""
    programs = {key: source(operation, "JavaScript") for key, operation in OPERATIONS.items()}
    programs["hard"] = javascript(Request("POST", f"{HOST}/x", {}, HARD))
    told = run_in_turn(tmp_path, "node", "mjs", programs, _JAVASCRIPT)
    for key, operation in OPERATIONS.items():
        url, options = told[key]
        assert url.startswith(HOST)
        assert options.get("method", "GET") == key.split()[0]
        assert json.loads(options.get("body", "null")) == body_of(operation)
    assert json.loads(told["hard"][1]["body"]) == HARD


@pytest.mark.needs_php
def test_php(tmp_path: Path) -> None:
    programs = {key: source(operation, "PHP") for key, operation in OPERATIONS.items()}
    programs["hard"] = php(Request("POST", f"{HOST}/x", {}, HARD))
    told = run_in_turn(tmp_path, "php", "php", programs, _PHP)
    for key, operation in OPERATIONS.items():
        url, options = told[key]
        assert url.startswith(HOST)
        assert options.get("method", "GET") == key.split()[0]
        assert json.loads(options.get("body", "null")) == body_of(operation)
    assert json.loads(told["hard"][1]["body"]) == HARD


# The call that would leave is caught and written down.
_JAVASCRIPT = """
import { readFileSync } from "node:fs";
const programs = JSON.parse(readFileSync(process.argv[2], "utf8"));
const kept = console.log;
console.log = () => {};
const told = {};
for (const [key, program] of Object.entries(programs)) {
  globalThis.fetch = async (url, options) => {
    told[key] = [url, options ?? {}];
    return { status: 200, json: async () => ({}), blob: async () => ({}) };
  };
  await new (Object.getPrototypeOf(async () => {}).constructor)(program)();
}
kept(JSON.stringify(told));
"""
_PHP = r"""<?php
namespace Sample;
const CURLOPT_RETURNTRANSFER = 1, CURLOPT_CUSTOMREQUEST = 2, CURLOPT_HTTPHEADER = 3, CURLOPT_POSTFIELDS = 4;
const CURLINFO_RESPONSE_CODE = 5;
function curl_init($url) { global $current; $current = [$url, []]; return 1; }
function curl_setopt_array($curl, $options) {
    global $current;
    if (isset($options[2])) { $current[1]['method'] = $options[2]; }
    if (isset($options[4])) { $current[1]['body'] = $options[4]; }
}
function curl_exec($curl) { return '{}'; }
function curl_getinfo($curl, $what) { return 204; }
$told = [];
foreach (json_decode(file_get_contents($argv[1]), true) as $key => $program) {
    ob_start();
    eval('namespace Sample; ' . substr($program, 5));
    ob_end_clean();
    $told[$key] = [$current[0], (object) $current[1]];
}
echo json_encode($told);
"""


def run_in_turn(folder: Path, program: str, suffix: str, programs: dict[str, str], around: str) -> dict[str, Any]:
    (folder / "programs.json").write_text(json.dumps(programs))
    (folder / f"around.{suffix}").write_text(around)
    command = [shutil.which(program), folder / f"around.{suffix}", folder / "programs.json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return json.loads(ran.stdout)

"""Requests as code, in the languages that the documents offer to switch between."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TOKEN = "YOUR_TOKEN"  # noqa: S105 - a placeholder
_WIDE = 88


@dataclass(frozen=True, slots=True)
class Request:
    """What a sample does. `body` is a JSON value, None where there is none; `answer` decides what is printed of it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    answer: Literal["json", "file", "nothing"] = "json"


@dataclass(frozen=True, slots=True)
class _Notation:
    """How a language writes literal values."""

    string: Callable[[str], str]
    words: Mapping[Any, str]
    opening: tuple[str, str]
    closing: tuple[str, str]
    arrow: str
    indent: str = "    "

    def write(self, value: Any, column: int = 0, depth: int = 0) -> str:
        """The literal for a JSON value: on one line where it fits behind `column`, else one item a line."""
        if isinstance(value, str):
            return self.string(value)
        if value is None or isinstance(value, bool):
            return self.words[value]
        if not isinstance(value, dict | list):
            return json.dumps(value)
        kind = int(isinstance(value, list))
        items = [
            ("" if kind else f"{self.string(each)}{self.arrow}") + self.write(value[each], depth=depth + 1)
            if not kind
            else self.write(each, depth=depth + 1)
            for each in value
        ]
        flat = f"{self.opening[kind]}{', '.join(items)}{self.closing[kind]}"
        if "\n" not in flat and column + len(flat) + depth * len(self.indent) <= _WIDE:
            return flat
        inner, outer = self.indent * (depth + 1), self.indent * depth
        lines = "".join(f"{inner}{item},\n" for item in items)
        if self.words[None] == "null" and self.arrow == ": ":  # JSON, whose last item has no comma
            lines = lines.removesuffix(",\n") + "\n"
        return f"{self.opening[kind]}\n{lines}{outer}{self.closing[kind]}"


def _json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _php_string(text: str) -> str:
    if "\n" in text:
        return json.dumps(text, ensure_ascii=False).replace("$", "\\$").replace("\\/", "/")
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_JSON = _Notation(_json_string, {None: "null", True: "true", False: "false"}, ("{", "["), ("}", "]"), ": ", "  ")
_PYTHON = _Notation(_json_string, {None: "None", True: "True", False: "False"}, ("{", "["), ("}", "]"), ": ")
_PHP = _Notation(_php_string, {None: "null", True: "true", False: "false"}, ("[", "["), ("]", "]"), " => ")


def curl(request: Request) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"

    method = "" if request.method == "GET" else f"-X {request.method} "
    parts = [f"curl {method}{quoted(request.url)}"]
    parts += [f"-H {quoted(f'{name}: {value}')}" for name, value in request.headers.items()]
    if request.body is not None:
        parts.append(f"-d {quoted(_JSON.write(request.body))}")
    if request.answer == "file":
        parts.append("-OJ")
    return " \\\n  ".join(parts)


def javascript(request: Request) -> str:
    options = []
    if request.method != "GET":
        options.append(f'  method: "{request.method}",\n')
    if request.headers:
        options.append(f"  headers: {_JSON.write(dict(request.headers), depth=1)},\n")
    if request.body is not None:
        options.append(f"  body: JSON.stringify({_JSON.write(request.body, column=24, depth=1)}),\n")
    arguments = f", {{\n{''.join(options)}}}" if options else ""
    read = {"json": ", await response.json()", "file": ", await response.blob()", "nothing": ""}[request.answer]
    call = f"const response = await fetch({_json_string(request.url)}{arguments});"
    return f"{call}\nconsole.log(response.status{read});\n"


def php(request: Request) -> str:
    lines = [f"$curl = curl_init({_php_string(request.url)});", "curl_setopt_array($curl, ["]
    lines.append("    CURLOPT_RETURNTRANSFER => true,")
    if request.method != "GET":
        lines.append(f"    CURLOPT_CUSTOMREQUEST => '{request.method}',")
    if request.headers:
        headers = _PHP.write([f"{name}: {value}" for name, value in request.headers.items()], column=24, depth=1)
        lines.append(f"    CURLOPT_HTTPHEADER => {headers},")
    if request.body is not None:
        lines.append(f"    CURLOPT_POSTFIELDS => json_encode({_PHP.write(request.body, column=36, depth=1)}),")
    lines += ["]);", "$answer = curl_exec($curl);"]
    shown = {
        "json": "print_r(json_decode($answer, true));",
        "file": "echo strlen($answer), PHP_EOL;",
        "nothing": "echo curl_getinfo($curl, CURLINFO_RESPONSE_CODE), PHP_EOL;",
    }[request.answer]
    return "<?php\n" + "\n".join([*lines, shown]) + "\n"


def python(request: Request) -> str:
    arguments = [f"    {_json_string(request.url)},\n"]
    headers = {name: value for name, value in request.headers.items() if name != "Content-Type"}
    if headers:
        arguments.append(f"    headers={_PYTHON.write(headers, column=12, depth=1)},\n")
    if request.body is not None:
        arguments.append(f"    json={_PYTHON.write(request.body, column=9, depth=1)},\n")
    if len(arguments) == 1:
        call = f"requests.{request.method.lower()}({arguments[0].strip().removesuffix(',')})"
    else:
        call = f"requests.{request.method.lower()}(\n{''.join(arguments)})"
    read = {"json": ", response.json()", "file": ", len(response.content)", "nothing": ""}[request.answer]
    return f"import requests\n\nresponse = {call}\nprint(response.status_code{read})\n"


# (language for highlighting, label, how it is written)
LANGUAGES: tuple[tuple[str, str, Callable[[Request], str]], ...] = (
    ("shell", "curl", curl),
    ("javascript", "JavaScript", javascript),
    ("php", "PHP", php),
    ("python", "Python", python),
)


def samples(request: Request) -> list[dict[str, str]]:
    """The `x-codeSamples` of an operation."""
    return [{"lang": lang, "label": label, "source": write(request)} for lang, label, write in LANGUAGES]


def filled(path: str, values: Mapping[str, Any]) -> str:
    """A path template with its parameters put in."""
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), path)

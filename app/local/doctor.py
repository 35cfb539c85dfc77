"""What `smsfleet doctor` looks at, and how it says it: to people, to programs, and to others."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from app.checks import looks
from app.checks.finding import Finding, Severity
from app.core.printable import printable
from app.core.settings import Settings
from app.local import processes
from app.local.folder import Runtime

_LABELS = {Severity.OK: "ok  ", Severity.NOTE: "note", Severity.WARNING: "WARN", Severity.BROKEN: "BAD "}
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
_NUMBER = re.compile(r"\+?\d{7,15}")
_ADDRESS = re.compile(
    r"\b\d{1,3}(\.\d{1,3}){3}\b|(?<![\w:])([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b|(?<![\w:])[0-9a-f:]*::[0-9a-f:.]*",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?<=://)(\[[^\]\s]*\]|[^\s/:]+)")


def examine(settings: Settings, runtime: Runtime | None) -> list[Finding]:
    """Look at the database, the broker, the workers and the HTTP side of an installation."""
    of_this = processes.processes(runtime) if runtime else ()
    return [*looks.examine(settings), *processes.reach(settings), *of_this]


def worst(findings: list[Finding]) -> Severity:
    return max((finding.severity for finding in findings), default=Severity.OK)


def as_text(findings: list[Finding]) -> str:
    """Lines for a person."""
    lines = []
    for finding in findings:
        lines.append(f"{_LABELS[finding.severity]} {finding.what}: {printable(finding.detail)}")
        if finding.advice:
            lines.append(f"     → {printable(finding.advice)}")
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> str:
    """For programs. The names of checks and severities stay what they are."""
    listed = [
        {"check": one.what, "severity": one.severity.name.lower(), "detail": one.detail, "advice": one.advice}
        for one in findings
    ]
    status = worst(findings).name.lower()
    return json.dumps({"version": version("smsfleet"), "status": status, "findings": listed}, indent=1)


def shareable(text: str, settings: Settings) -> str:
    """A report without what is nobody else's business: secrets, addresses of people and machines, phone numbers."""
    for secret in sorted(_secrets(settings), key=len, reverse=True):
        text = text.replace(secret, "<secret>")
    for host in sorted(_hosts(settings), key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "<host>", text)
    for pattern, stand_in in ((_EMAIL, "<email>"), (_HOST, "<host>"), (_ADDRESS, "<address>"), (_NUMBER, "<number>")):
        text = pattern.sub(stand_in, text)
    return text


def _secrets(settings: Settings) -> set[str]:
    """Every secret among the settings, whole; of URLs the password too."""
    plain = [value.get_secret_value() for value in _values(settings) if isinstance(value, SecretStr)]
    return {secret for secret in (*plain, *(parts.password for parts in _urls(plain))) if secret}


def _hosts(settings: Settings) -> set[str]:
    """The names of machines among the settings."""
    values = [value.get_secret_value() if isinstance(value, SecretStr) else str(value) for value in _values(settings)]
    return {parts.hostname for parts in _urls(values) if parts.hostname}


def _values(settings: Settings) -> list[Any]:
    return [getattr(settings, name) for name in type(settings).model_fields]


def _urls(values: Iterable[str]) -> Iterator[SplitResult]:
    """Those of the values that are URLs, taken apart."""
    for value in values:
        with suppress(ValueError):
            if "://" in value:
                yield urlsplit(value)

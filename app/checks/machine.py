"""The machine and the settings: versions, disk, certificate, and settings that undo each other."""

import platform
import shutil
import socket
import ssl
import time
from importlib.metadata import version
from pathlib import Path

from app.checks.finding import Finding, Findings, broken, duration, note, ok, warning
from app.core.settings import Settings, is_loopback

# What is left of a disk, as a part of it and in bytes: under one of the two it is soon full.
_LOW_PART, _LOW_BYTES = 0.05, 2 * 1024**3
_FULL_BYTES = 200 * 1024**2
_CERTIFICATE_DAYS, _CERTIFICATE_LAST_DAYS = 14, 2


def look(settings: Settings) -> Findings:
    yield ok("versions", ", ".join(_versions()))
    yield disk(settings.data_dir)
    if settings.public_url and settings.public_url.scheme == "https":
        assert settings.public_url.host
        yield certificate(settings.public_url.host, settings.public_url.port or 443)
    yield from contradictions(settings)


def _versions() -> list[str]:
    return [f"smsfleet {version('smsfleet')}", f"Python {platform.python_version()}", f"Celery {version('celery')}"]


def disk(folder: Path) -> Finding:
    """Room where the data folder is; the embedded database is there too, or beside it."""
    place = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
    found = shutil.disk_usage(place)
    left = f"{found.free / 1024**3:.1f} of {found.total / 1024**3:.1f} GiB are free at {place}"
    advice = "make room, or keep less: messages and webhooks are most of it"
    if found.free < min(_FULL_BYTES, found.total / 20):
        return broken("disk", left, advice)
    if found.free < min(_LOW_BYTES, found.total * _LOW_PART * 2):
        return warning("disk", left, advice)
    return ok("disk", left)


def certificate(host: str, port: int, authorities: str | None = None) -> Finding:
    """The certificate that the public address shows, as a phone judges it."""
    advice = "see why the proxy in front of smsfleet does not renew it"
    try:
        with (
            socket.create_connection((host, port), timeout=5) as connection,
            ssl.create_default_context(cafile=authorities).wrap_socket(connection, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert()
    except ssl.SSLCertVerificationError as error:
        return broken("certificate", f"{host} shows one that is not accepted: {error.verify_message}", advice)
    except OSError as error:
        return broken("certificate", f"{host}:{port} cannot be reached: {error}", "check the proxy and its address")
    assert shown
    ends = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    left = ends - time.time()
    told = f"that of {host} ends in {duration(left)}"
    if left < _CERTIFICATE_LAST_DAYS * 86400:
        return broken("certificate", told, advice)
    if left < _CERTIFICATE_DAYS * 86400:
        return warning("certificate", told, advice)
    return ok("certificate", told)


def contradictions(settings: Settings) -> Findings:
    """Settings that undo each other, or do nothing as they are."""
    found = [
        (
            settings.session_idle > settings.session_lifetime,
            "SMSFLEET_SESSION_IDLE is longer than SMSFLEET_SESSION_LIFETIME, which ends sessions before",
        ),
        (
            bool(settings.allowed_hosts and settings.public_url),
            "SMSFLEET_ALLOWED_HOSTS has no effect beside SMSFLEET_PUBLIC_URL",
        ),
        (
            settings.metrics_token is None and not settings.is_local,
            "nobody is shown /metrics, because others reach the gateway and SMSFLEET_METRICS_TOKEN is not set",
        ),
        (
            settings.public_url is not None and settings.public_url.scheme == "https" and _is_open_plainly(settings),
            "SMSFLEET_PUBLIC_URL is https, but SMSFLEET_HOST listens on the network and trusts no proxy",
        ),
        (
            settings.registration == "open" and settings.smtp_url is None and not settings.is_local,
            "registration is open to all, and without SMSFLEET_SMTP_URL no address is confirmed",
        ),
    ]
    for is_so, sentence in found:
        if is_so:
            yield note("settings", sentence)


def _is_open_plainly(settings: Settings) -> bool:
    return not is_loopback(settings.host) and not settings.trusted_proxies

"""Mail to users, by the operator's SMTP server; none where none is configured."""

import smtplib
import ssl
import time
from email.message import EmailMessage
from urllib.parse import SplitResult, unquote, urlsplit

import structlog

from app.core.errors import Unavailable
from app.core.refusals import NO_MAIL
from app.core.settings import get_settings

_SECONDS = 10
# One that keeps a mail waiting and does not take it is left alone for so long: mails that wait for it, one after the
# other, would keep every thread of a worker.
_PAUSE_SECONDS = 60
_LOCAL = {"localhost", "127.0.0.1", "::1"}

log = structlog.get_logger(__name__)

_left_alone_until: dict[str, float] = {}  # of each server, by a clock that nobody sets


class MailNotSentError(Exception):
    """The mail server refused, could not be reached, or would have had the password without encryption."""


def require_mail() -> None:
    """Raises `Unavailable` where no mail server is configured."""
    if get_settings().smtp_url is None:
        raise Unavailable(NO_MAIL)


def send(to: str, subject: str, text: str) -> None:
    """Send a plain text mail; does nothing but log where `SMTP_URL` is not set. Raises `MailNotSentError`.

    Uses the network for up to some ten seconds: call it with no transaction open.
    """
    settings = get_settings()
    if settings.smtp_url is None:
        log.info("no mail server configured, mail not sent", subject=subject)
        return
    message = EmailMessage()
    message["From"], message["To"] = settings.mail_from, to
    message["Subject"] = " ".join(subject.split())
    message.set_content(text)
    url = settings.smtp_url.get_secret_value()
    server = urlsplit(url)
    began = time.monotonic()
    if began < _left_alone_until.get(url, 0):
        raise MailNotSentError("the mail server kept a mail waiting a moment ago")
    try:
        with _connect(server) as smtp:
            if server.username:
                smtp.login(unquote(server.username), unquote(server.password or ""))
            smtp.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        if time.monotonic() - began >= _SECONDS / 2:
            _left_alone_until[url] = time.monotonic() + _PAUSE_SECONDS
        raise MailNotSentError(f"{type(error).__name__}: {error}") from error


def _connect(server: SplitResult) -> smtplib.SMTP:
    """A connection, encrypted where the scheme says so or the server can; a password goes out unencrypted to no one."""
    host = server.hostname or "localhost"
    context = ssl.create_default_context()
    if server.scheme == "smtps":
        return smtplib.SMTP_SSL(host, server.port or 465, timeout=_SECONDS, context=context)
    smtp = smtplib.SMTP(host, server.port or 25, timeout=_SECONDS)
    try:
        _encrypt(smtp, context, password_waits=bool(server.username) and host not in _LOCAL)
    except Exception:
        smtp.close()
        raise
    return smtp


def _encrypt(smtp: smtplib.SMTP, context: ssl.SSLContext, *, password_waits: bool) -> None:
    smtp.ehlo()
    if smtp.has_extn("starttls"):
        smtp.starttls(context=context)
        smtp.ehlo()
    elif password_waits:
        raise MailNotSentError("the mail server offers no encryption, the password is not sent")

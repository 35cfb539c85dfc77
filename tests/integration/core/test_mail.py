"""Mail over real sockets, to a mail server small enough to read."""

import socket
import ssl
import threading
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from app.core import mail
from app.core.mail import MailNotSentError, send
from app.core.settings import get_settings

CERTIFICATE = Path(__file__).parents[2] / "data" / "localhost.pem"


class MailServer(threading.Thread):
    """Speaks enough SMTP for one mail, and remembers it."""

    def __init__(self, *, tls: str = "none", refuses: bytes = b"") -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port = self._listener.getsockname()[1]
        self._tls, self._refuses = tls, refuses
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(CERTIFICATE)
        self.commands: list[bytes] = []
        self.mail = b""
        self.encrypted = False

    def run(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection:
            try:
                if self._tls == "smtps":
                    with self._context.wrap_socket(connection, server_side=True) as encrypted:
                        self.encrypted = True
                        self._talk(encrypted)
                else:
                    self._talk(connection)
            except OSError:
                return  # the client went away, which some tests are about

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rwb") as stream:

            def say(line: bytes) -> None:
                stream.write(line + b"\r\n")
                stream.flush()

            if not self.encrypted or self._tls == "smtps":
                say(b"220 here")
            while line := stream.readline().strip():
                self.commands.append(line)
                word = line.upper().split()[0]
                if self._refuses and word == self._refuses:
                    say(b"550 no")
                elif word == b"EHLO":
                    offers = [b"STARTTLS"] if self._tls == "starttls" and not self.encrypted else []
                    lines = [b"localhost", *offers, b"AUTH PLAIN"]
                    say(b"\r\n".join(b"250" + (b" " if n == len(lines) - 1 else b"-") + x for n, x in enumerate(lines)))
                elif word == b"STARTTLS":
                    say(b"220 go on")
                    with self._context.wrap_socket(connection, server_side=True) as encrypted:
                        self.encrypted = True
                        self._talk(encrypted)
                    return
                elif word == b"DATA":
                    say(b"354 go on")
                    while (text := stream.readline()) != b".\r\n":
                        self.mail += text
                    say(b"250 taken")
                elif word == b"QUIT":
                    say(b"221 bye")
                    return
                else:
                    say(b"235 ok" if word == b"AUTH" else b"250 ok")


@pytest.fixture
def mail_server(monkeypatch):
    servers = []

    def start(scheme="smtp", user="", **options):
        server = MailServer(**options)
        server.start()
        servers.append(server)
        monkeypatch.setenv("SMSFLEET_SMTP_URL", f"{scheme}://{user}localhost:{server.port}")
        monkeypatch.setenv("SMSFLEET_MAIL_FROM", "gateway@example.com")
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        get_settings.cache_clear()
        return server

    yield start
    for server in servers:
        server.join(20)
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.mark.parametrize(("scheme", "tls"), [("smtp", "none"), ("smtp", "starttls"), ("smtps", "smtps")])
def test_a_mail_arrives(mail_server, scheme, tls):
    server = mail_server(scheme, "user%40example.com:p%3Ass@", tls=tls)
    send("ali@example.com", "Телефон\r\nBcc: everybody@example.com", "It is offline.\n.\nSo it is.")
    server.join(20)
    arrived = message_from_bytes(server.mail, policy=default)
    assert (arrived["From"], arrived["To"], arrived["Bcc"]) == ("gateway@example.com", "ali@example.com", None)
    assert arrived["Subject"] == "Телефон Bcc: everybody@example.com"
    assert arrived.get_content().strip().endswith("So it is.")
    assert server.encrypted is (tls != "none")
    assert any(command.startswith(b"AUTH PLAIN") for command in server.commands)


@pytest.mark.parametrize(("scheme", "tls"), [("smtp", "starttls"), ("smtps", "smtps")])
def test_a_certificate_that_nobody_trusts(mail_server, monkeypatch, tmp_path, scheme, tls):
    server = mail_server(scheme, "user:secret@", tls=tls)
    trusts_nobody = tmp_path / "none.pem"
    trusts_nobody.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusts_nobody))
    with pytest.raises(MailNotSentError):
        send("ali@example.com", "x", "y")
    assert not any(command.startswith(b"AUTH") for command in server.commands)


@pytest.mark.parametrize("refuses", [b"AUTH", b"MAIL", b"RCPT", b"DATA"])
def test_a_server_that_refuses(mail_server, refuses):
    mail_server(user="user:secret@", refuses=refuses)
    with pytest.raises(MailNotSentError, match="no"):
        send("ali@example.com", "x", "y")


def test_a_server_that_is_not_there(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("SMSFLEET_SMTP_URL", f"smtp://127.0.0.1:{port}")
    get_settings.cache_clear()
    try:
        with pytest.raises(MailNotSentError):
            send("ali@example.com", "x", "y")
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


def test_not_configured_is_no_error(monkeypatch):
    monkeypatch.delenv("SMSFLEET_SMTP_URL", raising=False)
    get_settings.cache_clear()
    send("ali@example.com", "x", "y")


def test_a_server_that_never_answers_keeps_one_mail_waiting_and_not_those_behind_it(mail_server, monkeypatch):
    monkeypatch.setattr(mail, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.1)
        monkeypatch.setenv("SMSFLEET_SMTP_URL", f"smtp://127.0.0.1:{silent.getsockname()[1]}")
        get_settings.cache_clear()
        for told in ("timed out", "kept a mail waiting a moment ago", "kept a mail waiting a moment ago"):
            with pytest.raises(MailNotSentError, match=told):
                send("ali@example.com", "x", "y")
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
        monkeypatch.setattr(mail, "_left_alone_until", dict.fromkeys(mail._left_alone_until, 0))  # as a minute later
        with pytest.raises(MailNotSentError, match="timed out"):
            send("ali@example.com", "x", "y")
        silent.accept()[0].close()
    server = mail_server()
    send("ali@example.com", "x", "y")
    assert server.mail, "another server is another matter"

"""Certificates of localhost, and a server that shows one."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make(folder: Path, days: int) -> Path:
    """A file with a key and a certificate for it that is good for so many days."""
    made = folder / f"{days}-days.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", str(days)]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(made), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    made.write_text(made.read_text() + (folder / "cert.pem").read_text())
    return made


@contextmanager
def served(certificate: Path) -> Iterator[int]:
    """A TLS server that shows it, as long as the file says so: its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # the listener is shut down
                with connection:
                    _show(certificate, connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _show(certificate: Path, connection: socket.socket) -> None:
    """To a client that may go away at any moment; or nothing, where the file is just being written."""
    connection.settimeout(5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with suppress(OSError):
        context.load_cert_chain(certificate)
        context.wrap_socket(connection, server_side=True).close()

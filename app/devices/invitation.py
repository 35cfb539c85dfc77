"""An invitation for a phone: the address and the private token that its owner types into the app."""

import io
from datetime import datetime
from urllib.parse import urlsplit

import segno
from sqlalchemy.orm import Session

from app.accounts import tokens
from app.core.links import is_of_local_network, why_no_phone_reaches
from app.devices import android_limit
from app.devices.schemas import AndroidLimit, Enrollment

MOBILE_PATH = "/api/mobile/v1"
KEY_NAME = "Phone enrollment"
_WITH_TLS = 'Install "SMS Gateway for Android" (app-release.apk, version 1.53 or newer).'
_WITHOUT_TLS = (
    'Install "SMS Gateway for Android" as app-insecure.apk (version 1.53 or newer): this server has no HTTPS,'
    " and the standard build speaks nothing else."
)
_TRUST = (
    "Let the phone trust this server's certificate: open http://{host}/smsfleet-ca.crt in its browser, search"
    " Android's settings for CA certificate (Security → Encryption & credentials → Install a certificate), and"
    " choose the downloaded file."
)
_STEPS = (
    "Open Settings → Cloud Server and set API URL to the server address and Private Token to the private token.",
    "In Settings → Cloud Server set Notification channel to SSE Only.",
    "In Settings → System disable battery optimisation for the app.",
    "On the Home tab switch Cloud server on and tap Offline to start it.",
    "When the app asks how to connect, choose the tab Sign Up and confirm.",
    "Allow the app to send and read SMS and to use the phone, when it asks for it.",
)
SENTENCES = (_WITH_TLS, _WITHOUT_TLS, _TRUST, *_STEPS)


def invite(session: Session, user_id: int, base_url: str, expires_at: datetime | None = None) -> Enrollment:
    """Make a key that can do nothing but enroll phones of this user. It is kept by the app, so it need not expire."""
    key = tokens.make_key(session, user_id, KEY_NAME, ["phone:enroll"], expires_at)
    server = base_url + MOBILE_PATH
    return Enrollment(
        server_url=server,
        warning=why_no_phone_reaches(base_url),
        private_token=key.plain,
        qr_svg=_qr_svg(server, key.plain),
        steps=_steps(server),
        android_limit=AndroidLimit(
            advice=android_limit.ADVICE,
            commands=android_limit.COMMANDS,
            recommended_send_delay_seconds=android_limit.RECOMMENDED_DELAY,
        ),
    )


def qr(server: str, private_token: str) -> segno.QRCode:
    """A code that holds the address and the token, one a line."""
    return segno.make(f"{server}\n{private_token}", error="m")


def _qr_svg(server: str, private_token: str) -> str:
    image = io.BytesIO()
    qr(server, private_token).save(image, kind="svg", scale=5, xmldecl=False, svgns=True, nl=False)
    return image.getvalue().decode()


def _trust(server: str) -> list[str]:
    """What a phone needs where the certificate is of an authority of its own, as `deploy/compose/lan.yml` makes one."""
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname or not is_of_local_network(parts.hostname):
        return []
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return [_TRUST.format(host=host)]


def _steps(server: str) -> list[str]:
    return [_WITH_TLS if server.startswith("https://") else _WITHOUT_TLS, *_trust(server), *_STEPS]

"""An account in which everything that the documents' examples speak of is really there, under the same numbers."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from psycopg import Connection

from tests.support.messages_of import add_message

FIRST = {
    "tokens": 6,
    "devices": 5,
    "contacts": 12,
    "contact_groups": 3,
    "messages": 101,
    "webhook_deliveries": 77,
    "releases": 3,
}
NUMBER, OTHER_NUMBER = "+998901234567", "+998907654321"
# Nothing listens there.
NOWHERE = "http://127.0.0.1:9/sms"


@dataclass(frozen=True)
class World:
    """Headers of the owner and of the phone."""

    owner: dict[str, str]
    phone: dict[str, str]


def build(api: httpx.Client, sql: Connection, user: Any) -> World:
    for table, number in FIRST.items():
        sql.execute(f"ALTER TABLE {table} ALTER COLUMN id RESTART WITH {number}")

    def call(method: str, path: str, headers: dict[str, str] = user.headers, body: Any = None) -> Any:
        answer = api.request(method, f"/api{path}", headers=headers, json=body)
        assert answer.is_success, (path, answer.text)
        return answer.json() if answer.content else None

    key = call("POST", "/tokens", body={"name": "Enrolling"})["data"]["token"]
    card = {"slotIndex": 0, "simNumber": 1, "phoneNumber": "********4567"}
    enrolling = {"name": "google/panther", "simCards": [card]}
    device = call("POST", "/mobile/v1/device", {"Authorization": f"Bearer {key}"}, enrolling)
    call("POST", "/devices/default-device", body={"device_id": FIRST["devices"]})
    call("PUT", "/webhooks", body={"webhook_url_status": NOWHERE})
    call("POST", "/contact-groups", body={"name": "Customers"})
    call("POST", "/contacts", body={"phone_number": NUMBER, "name": "Ali", "group_ids": [FIRST["contact_groups"]]})
    call("POST", "/contacts", body={"phone_number": OTHER_NUMBER, "name": "Laylo"})
    call("POST", "/sms", body={"message": "One", "recipient_number": NUMBER})
    call("POST", "/sms", body={"message": "Two", "recipient_number": OTHER_NUMBER, "my_id": "order-1001"})
    call("PATCH", f"/sms/{FIRST['messages'] + 1}", body={"status": "failed", "error_message": "No signal"})
    attachment = {"part_id": 1, "content_type": "image/jpeg", "name": "photo.jpg", "size": 3, "data": "AAAA"}
    from psycopg.types.json import Jsonb

    add_message(sql, user, direction="inbound", sender_number=NUMBER, kind="mms", attachments=Jsonb([attachment]))
    sql.execute("UPDATE devices SET device_id = 'Zk3vQ0aP8mT1xY7nB5cR2' WHERE id = %s", (FIRST["devices"],))
    sql.execute("INSERT INTO promo_codes (code, months) VALUES ('SPRING26', 3)")
    publish()
    return World(user.headers, {"Authorization": f"Bearer {device['token']}"})


def publish() -> None:
    """A release with its file, as the command publishes one."""
    from app.core.database import transaction
    from app.releases.models import Release

    sha256, size = publish_file()
    with transaction() as session:
        session.add(Release(version_name="1.0.1", version_code=2, notes="", mandatory=False, sha256=sha256, size=size))


def publish_file() -> tuple[str, int]:
    """Its file alone, in the folder that the settings name now."""
    from app.releases import storage

    return storage.store(io.BytesIO(b"PK not really an app"))


def folder_for_releases(configured: Any, folder: Path) -> None:
    configured(DATA_DIR=str(folder), WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8")

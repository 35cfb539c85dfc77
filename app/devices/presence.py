"""Presence: when a phone counts as online, suspect or silent, in SQL over `device_state` as `s`.

A stream is a means to wake; life is an authenticated request. A phone that did not pull within 15 seconds of a wake is
suspect whatever its stream says, and was last seen at that wake or by its last request. One that only pulls may be
quiet for longer than the app's 15 minutes; one that did not even pull is an enrollment whose answer was lost.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.errors import Unauthenticated
from app.devices.auth import devices_by_token

_NOW = "clock_timestamp()"
# We write `stream_seen_at` ourselves as long as the connection stands, which a phone that hangs may never end.
LAST_SEEN = "GREATEST(s.seen_at, s.pulled_at, LEAST(s.stream_seen_at, s.woken_at))"

SUSPECT = f"(s.woken_at IS NOT NULL AND s.woken_at < {_NOW} - interval '15 seconds')"
ONLINE = (
    f"((COALESCE(s.stream_seen_at > {_NOW} - interval '30 seconds', false)"
    f" OR COALESCE(GREATEST(s.seen_at, s.pulled_at) > {_NOW} - interval '2 minutes', false))"
    f" AND NOT {SUSPECT})"
)
SILENT = (
    f"COALESCE({LAST_SEEN} < {_NOW} - CASE WHEN s.stream_opened_at IS NULL AND s.pulled_at IS NOT NULL"
    " THEN interval '20 minutes' ELSE interval '3 minutes' END, false)"
)

_SAW = text("""
    UPDATE device_state SET seen_at = clock_timestamp() WHERE device_id IN (
        SELECT device_id FROM device_state
        WHERE device_id = ANY(:ids) AND (seen_at IS NULL OR seen_at < clock_timestamp() - interval '10 seconds')
        ORDER BY device_id FOR NO KEY UPDATE SKIP LOCKED)
""")

_STREAMING = text("""
    UPDATE device_state s
    SET stream_seen_at = clock_timestamp(),
        woken_at = COALESCE(s.woken_at, CASE
            WHEN COALESCE(s.pulled_at < clock_timestamp() - make_interval(secs => u.waits), u.waits IS NOT NULL)
            THEN clock_timestamp() - make_interval(secs => u.waits) END)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:waits AS float8[])) AS u(device_id, waits)
    WHERE s.device_id = u.device_id AND s.device_id IN (
        SELECT device_id FROM device_state WHERE device_id = ANY(:ids) ORDER BY device_id FOR NO KEY UPDATE SKIP LOCKED)
""")


def saw(session: Session, devices: Collection[int]) -> None:
    """Note an authenticated request of each phone; at most once in ten seconds a phone, skipping those locked."""
    if devices:
        session.execute(_SAW, {"ids": list(devices)})


def streaming(session: Session, waits: Mapping[int, float | None]) -> None:
    """Note the phones whose streams a process holds, with the seconds since a wake that no pull has followed."""
    session.execute(_STREAMING, {"ids": list(waits), "waits": list(waits.values())})


# Not skipped where locked: the first pull after it is answered by that it was opened.
_OPENED = text("""
    UPDATE device_state SET stream_opened_at = clock_timestamp(), stream_seen_at = clock_timestamp(),
                            seen_at = clock_timestamp()
    WHERE device_id IN (SELECT device_id FROM device_state WHERE device_id = ANY(:ids)
                        ORDER BY device_id FOR NO KEY UPDATE)
""")


def stream_opened(session: Session, tokens: list[bytes]) -> Sequence[int | Exception]:
    """Note that phones opened a stream, by the SHA-256 of their tokens; the outcome of one is its device."""
    devices = devices_by_token(session, tokens)
    known = {token: device["id"] for token, device in devices.items() if not device["removed"]}
    if known:
        session.execute(_OPENED, {"ids": sorted(set(known.values()))})
    return [known.get(token) or Unauthenticated() for token in tokens]

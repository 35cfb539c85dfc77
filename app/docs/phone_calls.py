"""The calls of phones that no framework answers, described by hand."""

from typing import Any

DEVICE: list[dict[str, list[str]]] = [{"device": []}]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _refused(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json({"$ref": "#/components/schemas/Refusal"})}


_ORDER = {
    "name": "order",
    "in": "query",
    "required": False,
    "description": "Taken, and of no consequence: single messages always come before bulk",
    "schema": {"type": "string", "enum": ["lifo", "fifo"]},
}
_MESSAGES = {"type": "array", "items": {"$ref": "#/components/schemas/PhoneMessage"}}
_REPORTS = {"type": "array", "items": {"$ref": "#/components/schemas/PhoneReport"}}

PATHS: dict[str, Any] = {
    "/api/mobile/v1/message": {
        "get": {
            "tags": ["Phones"],
            "summary": "Pull messages",
            "description": "What the phone is to send now, within its pace. Repeated until the phone reports it.",
            "operationId": "phones_pull",
            "security": DEVICE,
            "parameters": [_ORDER],
            "responses": {
                "200": {"description": "Messages to send", "content": _json(_MESSAGES)},
                "400": _refused("An order that there is not"),
            },
        },
        "patch": {
            "tags": ["Phones"],
            "summary": "Report messages",
            "description": "What became of messages. Late, repeated and mixed up reports are fine, unknown ids too.",
            "operationId": "phones_report",
            "security": DEVICE,
            "requestBody": {"required": True, "content": _json(_REPORTS)},
            "responses": {
                "204": {"description": "Taken"},
                "400": _refused("A body that is no list of reports"),
            },
        },
    },
    "/api/mobile/v1/events": {
        "get": {
            "tags": ["Phones"],
            "summary": "Event stream",
            "description": "Server-sent events that wake the phone: `MessageEnqueued`, `WebhooksUpdated`, "
            "`SettingsUpdated`, `MessageCancelled`. Stays open.",
            "operationId": "phones_events",
            "security": DEVICE,
            "responses": {
                "200": {
                    "description": "The stream",
                    "content": {
                        "text/event-stream": {
                            "schema": {"type": "string"},
                            "example": "event: MessageEnqueued\ndata: null\n\n",
                        }
                    },
                }
            },
        }
    },
}

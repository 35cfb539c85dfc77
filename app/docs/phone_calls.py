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
    "description": "Accepted and ignored: single messages always come before bulk",
    "schema": {"type": "string", "enum": ["lifo", "fifo"]},
}
_MESSAGES = {"type": "array", "items": {"$ref": "#/components/schemas/PhoneMessage"}}
_REPORTS = {"type": "array", "items": {"$ref": "#/components/schemas/PhoneReport"}}

PATHS: dict[str, Any] = {
    "/api/mobile/v1/message": {
        "get": {
            "tags": ["Phones"],
            "summary": "Pull messages",
            "description": "Messages to send now, within the phone's pace. Repeated until the phone reports them.",
            "operationId": "phones_pull",
            "security": DEVICE,
            "parameters": [_ORDER],
            "responses": {
                "200": {"description": "Messages to send", "content": _json(_MESSAGES)},
                "400": _refused("Unknown order"),
            },
        },
        "patch": {
            "tags": ["Phones"],
            "summary": "Report messages",
            "description": "Report the results of messages. Reports may be late, repeated or out of order; unknown ids"
            " are ignored.",
            "operationId": "phones_report",
            "security": DEVICE,
            "requestBody": {"required": True, "content": _json(_REPORTS)},
            "responses": {
                "204": {"description": "Accepted"},
                "400": _refused("The body is not a list of reports"),
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

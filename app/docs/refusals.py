"""Every way in which the API refuses a request, as components of the document, and which operation may answer which."""

from typing import Any

REFUSAL = {"$ref": "#/components/schemas/Refusal"}
MODELS = {
    "/api/tokens": "PersonalAccessToken",
    "/api/devices": "Device",
    "/api/contacts": "Contact",
    "/api/contact-groups": "ContactGroup",
    "/api/sms": "SmsMessage",
    "/api/webhooks/deliveries": "WebhookDelivery",
    "/api/app/download": "Release",
}
_RETRY_AFTER = {"description": "Seconds to wait", "schema": {"type": "string", "pattern": "^[0-9]+$"}, "example": "30"}
_TOO_MANY = "Too Many Attempts."

SCHEMAS: dict[str, Any] = {
    "Refusal": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {"success": {"type": "boolean", "const": False}, "message": {"type": "string"}},
    },
    "ForbiddenRefusal": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {
            "success": {"type": "boolean", "const": False},
            "message": {"type": "string"},
            "upgrade": {
                "type": "boolean",
                "const": True,
                "description": "There where the plan lacks a feature, absent where the token lacks an ability",
            },
        },
    },
    "InvalidRefusal": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {
            "success": {"type": "boolean", "const": False},
            "message": {"type": "string", "description": "The first sentence, and how many more there are"},
            "errors": {
                "type": "object",
                "description": "Sentences by field; a nested field is dotted, as `recipients.3.number`. Absent where "
                "the request is well-formed and is refused for another reason",
                "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
            "reason": {"type": "string", "description": "Why a message cannot be cancelled"},
        },
    },
}


def _said(message: str, **more: Any) -> dict[str, Any]:
    return {"value": {"success": False, "message": message, **more}}


def _response(description: str, examples: dict[str, Any], schema: str = "Refusal", **more: Any) -> dict[str, Any]:
    media = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": examples}
    return {"description": description, "content": {"application/json": media}, **more}


_INVALID = _said(
    "The recipient number field is required. (and 1 more error)",
    errors={
        "recipient_number": ["The recipient number field is required."],
        "message": ["The message field must not be greater than 1600 characters."],
    },
)
_RETRY = {"Retry-After": {**_RETRY_AFTER, "required": True}}

RESPONSES: dict[str, Any] = {
    "Unauthenticated": _response(
        "There is no token, or it is unknown, revoked or expired", {"token": _said("Unauthenticated.")}
    ),
    "Forbidden": _response(
        "The token lacks the ability, or the plan the feature",
        {
            "ability": _said("Invalid ability provided."),
            "plan": _said("This feature requires Premium.", upgrade=True),
        },
        "ForbiddenRefusal",
    ),
    "NotFound": _response("There is no such thing, or it is another user's", {"missing": _said("No query results.")}),
    "MethodNotAllowed": _response(
        "The path exists, with other methods",
        {"method": _said("The PUT method is not supported for route api/user. Supported methods: GET, HEAD.")},
        headers={"Allow": {"description": "The methods there are", "schema": {"type": "string"}, "required": True}},
    ),
    "Conflict": _response(
        "A request with the same Idempotency-Key is being worked on",
        {"under_way": _said("A request with this Idempotency-Key is being worked on.")},
        headers=_RETRY,
    ),
    "TooSlow": _response(
        "The body did not arrive in time", {"body": _said("The request body did not arrive in time.")}
    ),
    "TooLarge": _response("The body is larger than allowed", {"body": _said("The request body is too large.")}),
    "UnsupportedMediaType": _response(
        "The body is neither JSON nor a form", {"type": _said("The request body must be JSON or a form.")}
    ),
    "Invalid": _response("Something in the request is not right", {"fields": _INVALID}, "InvalidRefusal"),
    "TooManyAttempts": _response("Too many tries", {"tries": _said(_TOO_MANY)}, headers=_RETRY),
    "ServerError": _response("A fault of the server's", {"fault": _said("Server Error")}),
    "Unavailable": _response(
        "The server cannot serve this now",
        {"busy": _said("The server is busy, try again shortly.")},
        headers={"Retry-After": _RETRY_AFTER},
    ),
}

NAMES = {
    "401": "Unauthenticated",
    "403": "Forbidden",
    "404": "NotFound",
    "409": "Conflict",
    "408": "TooSlow",
    "413": "TooLarge",
    "415": "UnsupportedMediaType",
    "422": "Invalid",
    "429": "TooManyAttempts",
    "503": "Unavailable",
}

_NO_MAIL = "This server cannot send mail: ask who runs it for a new password."
_BAD_CODE = "This code is wrong, was used, or has expired."
_NO_DEVICE = "No active device available"
# What single operations say besides, by operation and status.
SPECIAL: dict[str, dict[str, str]] = {
    "POST /api/register": {"403": "Registration is closed", "429": _TOO_MANY},
    "POST /api/login": {"401": "Invalid credentials", "429": _TOO_MANY},
    "POST /api/auth/google": {
        "401": "Invalid Google token",
        "403": "Registration is closed",
        "429": _TOO_MANY,
        "503": "Google sign-in is not available",
    },
    "POST /api/tokens": {"403": "An API key cannot outlive the token that makes it."},
    "PUT /api/user/password": {"422": "The password is incorrect.", "429": _TOO_MANY},
    "POST /api/forgot-password": {"429": _TOO_MANY, "503": _NO_MAIL},
    "POST /api/reset-password": {"422": _BAD_CODE, "429": _TOO_MANY},
    "POST /api/user/email/code": {"429": _TOO_MANY, "503": _NO_MAIL},
    "POST /api/user/email/verify": {"422": _BAD_CODE},
    "DELETE /api/user": {
        "403": "Only a session can delete the account: sign in.",
        "422": "The password is incorrect.",
        "429": _TOO_MANY,
        "503": "Google sign-in is not available",
    },
    "POST /api/subscriptions/redeem-promo": {"422": "This promo code is invalid or no longer available."},
    "POST /api/devices/default-device": {"404": "No query results for model [Device]."},
    "POST /api/sms": {"422": _NO_DEVICE},
    "POST /api/sms/bulk": {"422": _NO_DEVICE, "429": _TOO_MANY},
    "POST /api/contacts/import": {"429": _TOO_MANY},
    "GET /api/contacts/export": {"429": _TOO_MANY},
    "POST /api/sms/{message}/cancel": {"422": "Only pending messages can be cancelled"},
    "POST /api/sms/{message}/retry": {"422": "Only failed messages can be sent again"},
    "POST /api/webhooks/deliveries/{delivery_id}/replay": {
        "429": _TOO_MANY,
        "422": "This webhook delivery is still waiting to be delivered.",
    },
    "POST /api/webhooks/deliveries/replay": {"429": _TOO_MANY},
    "POST /api/webhooks/test": {"422": "No webhook URL is set.", "429": _TOO_MANY},
    "GET /api/app/download/{release_id}": {"503": "The file of this release is not in the data folder of this server."},
    "PATCH /api/mobile/v1/device": {"403": "The id is not this device's."},
}


def refusal(key: str, path: str, status: str) -> dict[str, Any]:
    """The response of one operation: a shared one, or with the sentences that are its own."""
    name = NAMES[status]
    special = SPECIAL.get(key, {}).get(status)
    if status == "404" and special is None:
        model = next((MODELS[start] for start in sorted(MODELS, key=len, reverse=True) if path.startswith(start)), None)
        special = model and f"No query results for model [{model}]."
    if special is None or special == _TOO_MANY:
        return {"$ref": f"#/components/responses/{name}"}
    shared = RESPONSES[name]
    media = shared["content"]["application/json"]
    own = status in {"401", "403", "404"}
    examples = {**({} if own else media["examples"]), "refused": _said(special)}
    return {**shared, "content": {"application/json": {"schema": media["schema"], "examples": examples}}}

"""The refusals that operations share, as components of the document, and those that a route names besides."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core import refusals as r
from app.core.errors import Invalid
from app.core.refusals import Refusal

REFUSAL = {"$ref": "#/components/schemas/Refusal"}
_RETRY_AFTER = {"description": "Seconds to wait", "schema": {"type": "string", "pattern": "^[0-9]+$"}, "example": "30"}

_CODE = {
    "reason_code": {
        "type": "string",
        "description": "A code for `message`, or for `reason` if there is one; absent for the most common refusals",
    }
}

SCHEMAS: dict[str, Any] = {
    "Refusal": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {"success": {"type": "boolean", "const": False}, "message": {"type": "string"}, **_CODE},
    },
    "ForbiddenRefusal": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {
            "success": {"type": "boolean", "const": False},
            "message": {"type": "string"},
            "upgrade": {"type": "boolean", "const": True, "description": "Present when the plan lacks a feature"},
            **_CODE,
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
                "description": "Sentences by field; nested fields are dotted: `recipients.3.number`. Absent if the "
                "request is well-formed and refused for another reason",
                "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
            "reason": {"type": "string", "description": "Why a message cannot be cancelled"},
            **_CODE,
        },
    },
}


def _said(refusal: Refusal, *, upgrade: bool = False, **parameters: str) -> dict[str, Any]:
    return {"value": {**r.body(refusal, parameters), **({"upgrade": True} if upgrade else {})}}


def _response(description: str, examples: dict[str, Any], schema: str = "Refusal", **more: Any) -> dict[str, Any]:
    media = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": examples}
    return {"description": description, "content": {"application/json": media}, **more}


_INVALID = {
    "value": Invalid(
        {
            "recipient_number": ["The recipient number field is required."],
            "message": ["The message field must not be greater than 1600 characters."],
        }
    ).body()
}
_RETRY = {"Retry-After": {**_RETRY_AFTER, "required": True}}

RESPONSES: dict[str, Any] = {
    "Unauthenticated": _response(
        "The token is missing, unknown, revoked or expired", {"token": _said(r.UNAUTHENTICATED)}
    ),
    "Forbidden": _response(
        "The token lacks the ability, or the plan lacks the feature",
        {
            "ability": _said(r.LACKS_ABILITY),
            "plan": _said(r.NEEDS_PREMIUM, upgrade=True),
        },
        "ForbiddenRefusal",
    ),
    "NotFound": _response("Not found, or owned by another user", {"missing": _said(r.NOT_FOUND, model="SmsMessage")}),
    "MethodNotAllowed": _response(
        "The path exists, but not with this method",
        {"method": _said(r.METHOD_NOT_ALLOWED, method="PUT", path="api/user", allowed="GET, HEAD")},
        headers={"Allow": {"description": "The supported methods", "schema": {"type": "string"}, "required": True}},
    ),
    "Conflict": _response(
        "A request with the same Idempotency-Key is still being processed",
        {"in_use": _said(r.KEY_IN_USE)},
        headers=_RETRY,
    ),
    "TooSlow": _response("The body did not arrive in time", {"body": _said(r.TOO_SLOW)}),
    "TooLarge": _response("The body is larger than allowed", {"body": _said(r.TOO_LARGE)}),
    "UnsupportedMediaType": _response("The body is neither JSON nor a form", {"type": _said(r.UNSUPPORTED_MEDIA_TYPE)}),
    "Invalid": _response("The request is invalid", {"fields": _INVALID}, "InvalidRefusal"),
    "TooManyAttempts": _response("Too many attempts", {"tries": _said(r.TOO_MANY_ATTEMPTS)}, headers=_RETRY),
    "ServerError": _response("Internal server error", {"error": _said(r.SERVER_ERROR)}),
    "Unavailable": _response(
        "The server cannot handle the request now",
        {"busy": _said(r.OVERLOADED)},
        headers={"Retry-After": _RETRY_AFTER},
    ),
}

# Names of the examples above.
SHARED = {name for each in RESPONSES.values() for name in each["content"]["application/json"]["examples"]}

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

# Where the sentences that a route names are all there are; elsewhere they come beside the shared ones.
_OWN = {"401", "403", "404"}


def is_refusal(status: str, response: Mapping[str, Any]) -> bool:
    """Whether a route's response is one that `response` writes; not where the route has a model for it."""
    media = response.get("content", {}).get("application/json", {})
    return status in NAMES and ("schema" not in media or is_of_framework(response))


def is_of_framework(response: Mapping[str, Any]) -> bool:
    """The 422 that FastAPI writes by itself, of a shape that is not ours."""
    return "HTTPValidationError" in str(response)


def response(status: str, said: Mapping[str, Any], parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The response of one operation: a shared one, or with the examples that its route names."""
    name = NAMES[status]
    examples = said.get("content", {}).get("application/json", {}).get("examples", {})
    if status == "404" and not examples:
        models = [each["schema"]["model"] for each in parameters if "model" in each["schema"]]
        examples = {model: _said(r.NOT_FOUND, model=model) for model in models}
    if not examples:
        return {"$ref": f"#/components/responses/{name}"}
    shared = RESPONSES[name]
    media = shared["content"]["application/json"]
    whole = {**({} if status in _OWN else media["examples"]), **examples}
    return {**shared, "content": {"application/json": {"schema": media["schema"], "examples": whole}}}

"""The introduction of the documents. Everything else is said by the routes and schemas themselves."""

from app.accounts.principals import ABILITIES

TITLE = "smsfleet API"
SUMMARY = "Send and receive SMS through your own phones."
_ABILITIES = ", ".join(f"`{ability}`" for ability in ABILITIES).replace("`*`", "`*` (everything)")

INTRODUCTION = f"""\
smsfleet turns phones with SIM cards into one SMS gateway. A program sends over this API, messages are spread over the
phones, and you track each message by polling or webhook.

## First message

1. Register with `POST /api/register`, or sign in with `POST /api/login`; the answer has a token.
2. Enroll a phone: `POST /api/devices/enrollment` returns what to type into its app.
3. Send: `POST /api/sms` with `recipient_number` and `message`.
4. For a program, create an API key with `POST /api/tokens`.

## Conventions

- **Authentication**: `Authorization: Bearer <token>`. API keys have abilities: {_ABILITIES}.
- **Sessions** start when you sign in, and expire after a month without use or after a year (unless the operator has set
  other limits). API keys expire only if you set `expires_at`.
- **Bodies** are JSON; forms are accepted as well. Strings are trimmed and an empty one is null, except messages and
  passwords. Null clears an optional field, an absent one is left unchanged. Unknown fields are ignored and listed in
  the response header `X-Ignored-Fields`; unknown filters of a list and unknown names in `limits` are a `422`.
- **Methods**: if a client can only `POST`, the header `X-HTTP-Method-Override` or a field `_method` in body or query
  makes it a `PUT`, `PATCH` or `DELETE`.
- **Answers** are `{{"success": true, "data": …, "message": "…"}}`; some have no `message`.
- **Refusals** are `{{"success": false, "message": "…"}}`, often with a `reason_code` for programs. A `422` lists the
  invalid fields in `errors`; nested ones are dotted: `recipients.3.number`. A `403` with `"upgrade": true` means the
  plan lacks the feature, one without it means the token lacks the ability. A `429` and a busy server's `503` say in
  `Retry-After` how many seconds to wait. An account may run eight bulk sends, imports and exports at once. A path with
  an unsupported method is a `405` with `Allow`; an internal error is a `500` with `Server Error`.
- **Resources of another account** return `404`.
- **Times** are UTC with six digits: `2026-06-08T10:00:00.000000Z`.
- **Numbers** are `+` and 7 to 15 digits; spaces and `-.()` are dropped. Without `+` the account's `default_region` is
  used.
- **Scheduling**: `send_at` on single and bulk sends, `start_at` on campaigns. Other words for it, such as `schedule_at`
  or `delay`, are a `422`, so that nothing goes at once that was meant for later.
- **Lists** are paged: `?page=` from 1, `?per_page=` up to 200.
- **Idempotency**: a send with an `Idempotency-Key` header can be repeated for 24 hours and is sent once.
- **Webhooks** are signed as [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`
  and `webhook-signature`, with the secret from `GET /api/webhooks/secret`.
"""

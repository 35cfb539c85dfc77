"""What the documents say that no route says: the introduction, titles, and explanations of fields."""

TITLE = "smsfleet API"
SUMMARY = "Send and receive SMS through your own phones."

INTRODUCTION = """\
smsfleet turns phones with SIM cards into one SMS gateway. A program sends over this API, messages are spread over the
phones, and what became of each is told by polling or by webhook.

## First message

1. Sign in with `POST /api/login`, or make an API key with `POST /api/tokens`.
2. Enroll a phone: `POST /api/devices/enrollment` says what to type into its app.
3. `POST /api/sms` with `recipient_number` and `message`.

## Conventions

- **Authentication**: `Authorization: Bearer <token>`. API keys have abilities: `*` (everything), `sms:send`,
  `sms:read`, `contacts`, `devices`, `webhooks`, `account`, `tokens`, `phone:enroll`.
- **Sessions**, which signing in makes, end when they are not used for a month, and after a year (the operator may have
  set otherwise). API keys end when you say so.
- **Bodies** are JSON; forms are read too. Strings are trimmed and an empty one is null, except messages and passwords.
  Null clears a field that may be empty, an absent one is left as it is. Fields that a call does not know are ignored
  and named in the response header `X-Ignored-Fields`; unknown filters of a list and unknown names in `limits` are a
  `422`.
- **Methods**: where a client can only `POST`, the header `X-HTTP-Method-Override` or a field `_method` in body or query
  makes it a `PUT`, `PATCH` or `DELETE`.
- **Answers** are `{"success": true, "data": …, "message": "…"}`, with `message` where one is shown.
- **Refusals** are `{"success": false, "message": "…"}`. A `422` names the fields in `errors`, dotted where they are
  nested: `recipients.3.number`. A `403` with `"upgrade": true` asks for another plan, one without it for a token with
  the ability. A `429` and a busy server's `503` say in `Retry-After` how many seconds to wait. An account
  may have eight bulk sends, imports and exports under way at once. A path with another
  method is a `405` with `Allow`, a fault of ours a `500` that says `Server Error`.
- **Somebody else's** messages, contacts and phones are not there: `404`.
- **Times** are UTC with six digits: `2026-06-08T10:00:00.000000Z`.
- **Numbers** are `+` and 7 to 15 digits; spaces and `-.()` are dropped. Without `+` the account's `default_region` is
  used.
- **Scheduling** is not served yet: a send with a field such as `send_at`, `schedule_at` or `delay` is a `422`.
- **Lists** come in pages: `?page=` from 1, `?per_page=` up to 200.
- **Idempotency**: a send with an `Idempotency-Key` header can be repeated for 24 hours and sends once.
- **Webhooks** are signed as [Standard Webhooks](https://www.standardwebhooks.com) are: `webhook-id`,
  `webhook-timestamp` and `webhook-signature`, with the secret of `GET /api/webhooks/secret`.
"""

TAGS: dict[str, str] = {
    "SMS": "Sending, and what became of it; what phones received.",
    "Contacts": "Contacts and groups of them, as recipients of bulk sends.",
    "Devices": "Your phones: their pace, their limits, which one sends by default.",
    "Webhooks": "Your URLs that are told of messages, and every delivery to them.",
    "Accounts": "Signing in, API keys, figures, settings and plan.",
    "App updates": "The feed that the phone app looks for new versions in. No token is needed.",
    "Health": "For process managers and balancers.",
    "Phones": "What the phone app calls. Programs that send have no use for it.",
}

# Titles where a route's name makes a poor one, by operation.
TITLES: dict[str, str] = {
    "GET /health/live": "Is it alive?",
    "GET /health/ready": "Is it ready?",
    "POST /api/auth/google": "Sign in with Google",
    "POST /api/login": "Sign in",
    "POST /api/logout": "Sign out",
    "PUT /api/user/password": "Change password",
    "POST /api/forgot-password": "Have a reset code mailed",
    "POST /api/reset-password": "Reset password",
    "POST /api/user/email/code": "Have a confirmation code mailed",
    "POST /api/user/email/verify": "Confirm e-mail address",
    "DELETE /api/user": "Delete account",
    "GET /api/sessions": "List sessions",
    "DELETE /api/sessions/{session_id}": "End a session",
    "GET /api/tokens": "List API keys",
    "POST /api/tokens": "Create an API key",
    "DELETE /api/tokens/{key_id}": "Revoke an API key",
    "GET /api/balance": "Show account (as balance)",
    "PATCH /api/settings": "Change settings (PATCH)",
    "PATCH /api/webhooks": "Change webhooks (PATCH)",
    "PATCH /api/devices/{device_id}": "Change device (PATCH)",
    "PATCH /api/contacts/{contact_id}": "Change contact (PATCH)",
    "PATCH /api/contact-groups/{group_id}": "Change group (PATCH)",
    "POST /api/sms": "Send an SMS",
    "POST /api/sms/bulk": "Send to many",
    "GET /api/sms/outbox": "List outbox",
    "GET /api/sms/inbox": "List inbox",
    "GET /api/sms/{message}": "Show message",
    "PUT /api/sms/{message}": "Report status",
    "PATCH /api/sms/{message}": "Report status (PATCH)",
    "DELETE /api/sms/{message}": "Delete message",
    "POST /api/sms/{message}/cancel": "Cancel message",
    "POST /api/sms/{message}/retry": "Send again",
    "POST /api/webhooks/test": "Send a test webhook",
    "POST /api/webhooks/deliveries/replay": "Replay failed deliveries",
    "POST /api/webhooks/deliveries/{delivery_id}/replay": "Replay one delivery",
    "GET /api/app/latest": "Latest version",
    "GET /api/app/download/{release_id}": "Download a version",
    "POST /api/mobile/v1/device": "Enroll the phone",
    "PATCH /api/mobile/v1/device": "Renew the registration",
    "GET /api/mobile/v1/device": "Show the phone's address",
    "GET /api/mobile/v1/webhooks": "Hooks of the phone",
    "GET /api/mobile/v1/settings": "Settings of the phone",
}

PATH_PARAMETERS: dict[str, str] = {
    "session_id": "The session's number",
    "key_id": "The key's number",
    "device_id": "The phone's number, or its own string `device_id`",
    "contact_id": "The contact's number",
    "group_id": "The group's number",
    "message": "The message's number or its UUID",
    "delivery_id": "The delivery's number",
    "release_id": "The version's number",
}

# Explanations of fields and of query parameters, `Model.field` before `field`.
FIELDS: dict[str, str] = {
    "SmsRequest.message": "The text, up to 1600 characters",
    "SmsRequest.recipient_number": "Who gets it; `phone` is taken for it as well",
    "SmsRequest.my_id": "A reference of yours, given back wherever the message is shown",
    "SmsRequest.callback_url": "Is told once, when the message is delivered or has failed",
    "SmsRequest.device_id": 'A phone, by number or by its own string; `"active"`: each active phone in turn; absent: '
    "the default phone, else as `active`",
    "SmsRequest.price": "What the message costs; absent: the phone's `sms_rate`",
    "SmsRequest.sim_slot": "Which SIM card sends, from 0",
    "SmsRequest.validity_period": "Seconds from now after which it must not be sent any more; absent: it waits for its "
    "phone as long as it takes",
    "BulkRequest.message": "The text; `{name}` becomes each recipient's name",
    "BulkRequest.recipients": "Up to 100,000 numbers, or objects with number and name; a repeated one is served once",
    "BulkRequest.group_ids": "Groups whose contacts are recipients too",
    "BulkRequest.device_id": 'As in a single send; `"active"` spreads the messages over all active phones',
    "BulkRequest.price": "What each message costs",
    "BulkRequest.my_id": "A reference of yours, the same for every message",
    "BulkRequest.callback_url": "Is told once of each message, when it is delivered or has failed",
    "BulkRequest.sim_slot": "Which SIM card sends, from 0",
    "BulkRequest.validity_period": "As in a single send",
    "BulkRequest.skip_invalid": "Leave out recipients that cannot be served, instead of refusing the request",
    "BulkRequest.allow_duplicates": "Serve a repeated number as often as it is named",
    "BulkQueued.skipped": "Who was left out, where `skip_invalid` was asked for and anybody was",
    "SmsChange.status": "What became of it; a status never moves backwards",
    "MessageOut.device_id": "The phone's number, null until one is chosen",
    "MessageOut.uncertain": "Whether nobody knows if the SMS left: its phone never reported",
    "MessageOut.segments": "Into how many parts the text is cut on the air",
    "MessageOut.encoding": "`gsm7` or `ucs2`",
    "PasswordReset.code": "From the mail; good once, for half an hour",
    "EmailProof.code": "From the mail; good once, for half an hour",
    "AccountRemoval.current_password": "Needed where the account has a password",
    "NewKey.abilities": 'What the key may do; absent: `["*"]`',
    "NewKey.expires_at": "When it ends, no later than the API key that makes it; absent: with that one, or never",
    "SettingsChange.keep_inbound": "Whether received messages are kept; webhooks are told of them either way",
    "SettingsChange.default_region": "ISO country code by which numbers without `+` are read",
    "SettingsChange.offline_alert_minutes": "Tell by e-mail when a phone was away for so long; null: never",
    "DeviceOut.state": "`online`, `offline`, `disabled` by you, `failing`: most of its last messages failed, `quiet`: "
    "it accepts messages and sends none",
    "DeviceOut.hint": "What to do about the state, where something is to be done",
    "DeviceOut.today": "Today's figures in short, in UTC",
    "SettingsChange.failover": "Whether a message that certainly did not leave its phone is tried on up to two others",
    "SettingsChange.default_send_delay_seconds": "`send_delay_seconds` of phones that are enrolled from then on",
    "SettingsChange.approve_new_phones": "Whether a phone that is enrolled waits until you switch it on",
    "SettingsChange.device_events": "Whether webhooks are told when a phone goes offline or fails, and when it is back",
    "DeviceChange.send_delay_seconds": "Pause between two messages",
    "DeviceChange.send_delay_spread_seconds": "Up to so many seconds more, by chance",
    "DeviceChange.is_active": "Whether the phone may be used; your switch alone, whether or not it is online",
    "DeviceChange.sms_rate": "What a message through this phone costs where the send names no price",
    "DeviceChange.default_sim_slot": "Which SIM card sends, from 0",
    "ImportRequest.contacts": "Up to 100,000; rows without a usable number, and repeated ones, are skipped",
    "ImportRequest.group_id": "A group to put them into",
    "ReplayRange.from": "Deliveries made from then on",
    "ReplayRange.to": "And until then; absent: now",
    "TrialRequest.event": "Which of the two URLs; absent: the one that is set",
    "search": "Text to look for",
    "direction": "`outbound`: sent by you; `inbound`: received by a phone",
    "status": "Messages that have this status",
    "device_id": "A phone, by number or by its own string",
    "number": "The other party's number",
    "my_id": "Your reference",
    "from": "From this time on (ISO 8601; a date is its midnight in UTC)",
    "to": "Until this time (ISO 8601; a date is its end in UTC)",
    "cursor": "Reads on behind a page, at the same cost however deep: the `next_cursor` of that page",
    "group_id": "Contacts in this group",
    "bom": "Start the file with a byte order mark, so that Excel reads it as UTF-8",
    "state": "Deliveries in this state",
    "event": "Deliveries of this event",
    "url": "Deliveries to this URL",
    "message_id": "Deliveries that tell of this message, by number or UUID",
}

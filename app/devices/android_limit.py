"""Android's own limit on SMS: what a phone that reaches it does, and the remedy, in words for its owner."""

PARTS = 30
WINDOW_MINUTES = 30
# What keeps a phone below the limit: one part at a time, spread over the window.
RECOMMENDED_DELAY = WINDOW_MINUTES * 60 // PARTS

COMMANDS = [
    "adb shell settings put global sms_outgoing_check_max_count 100000",
    "adb shell settings put global sms_outgoing_check_interval_ms 60000",
]
WHY = (
    f"Android lets an app send about {PARTS} SMS parts in {WINDOW_MINUTES} minutes (on some phones in one minute)."
    " After that it asks on the phone's screen about each SMS, and sends nothing until someone answers."
)
REMEDY = (
    "To lift the limit, connect the phone to a computer with USB debugging on, run"
    f" `{COMMANDS[0]}` and `{COMMANDS[1]}`, and restart the phone."
    f" Otherwise set send_delay_seconds to {RECOMMENDED_DELAY}, so that one phone stays below the limit with"
    " messages of one part."
)
ADVICE = f"{WHY} {REMEDY}"

"""`python -m benchmarks.up FOLDER`: a durable gateway, as `smsfleet up` runs it, that leaves nothing behind.

Its settings come by the environment. It prints "ready" and ends at SIGTERM.
"""

import signal
import sys
from pathlib import Path

from app.local.installation import Installation
from app.local.servers import quiet

if __name__ == "__main__":
    installation = Installation(Path(sys.argv[1]), temporary=True, output=quiet)
    signal.signal(signal.SIGTERM, lambda *_: installation.request_stop())
    with installation:
        print("ready", flush=True)
        installation.wait()

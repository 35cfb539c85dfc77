"""How a process whose threads are all busy shares its one interpreter."""

import gc
import sys


def share_the_interpreter() -> None:
    """Keep an event loop quick beside threads that work, and the garbage collector away from both.

    A thread that wants the interpreter has it after 1 ms instead of 5, of which a request waits out a dozen while a
    bulk of 100,000 is written. The collector, which stops everybody, looks at what the modules made never again and at
    the rest less often: with its defaults it was a quarter of the webhook sender's time.
    """
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

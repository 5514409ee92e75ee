"""What holds for all tests."""

from __future__ import annotations

import signal

# Programs that a shell starts in the background ignore Ctrl-C, and so would their children, whose
# reaction to it is tested.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

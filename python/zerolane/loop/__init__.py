"""Real-time loops: `loop` over a binding, `mailbox` to talk to it, `realtime` for its threads."""

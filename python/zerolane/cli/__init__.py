"""The command `zerolane`: one file a verb."""

"""Lanes: several calls of one session at once, in native threads."""

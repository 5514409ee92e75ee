"""Batcher: requests of many callers, joined into runs."""

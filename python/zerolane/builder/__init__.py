"""Building engines: `zl.build`. Child processes, progress, and what the library is asked."""

"""What each built-in op computes, in NumPy and written for clarity: a module an op."""

"""What `zl.optimize.fp16`, `bf16` and `bisect` are made of.

narrow: the way of both · casts: the new graph · keep, regions, overflow: what stays in float32, and
why · rounding: numbers in 16 bits · emulate: as a GPU computes it · bisection, bisect_run, search:
the fewest nodes to leave alone.
"""

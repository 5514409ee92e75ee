"""`zl.optimize.quantize` and `sensitivity`, by what they do in turn.

`prepare` (read, fold, fuse) - `places` (which nodes, which values) - `collect` (run samples) -
`ranges` (from what was seen to scales) - `weights`, `insert` (the new graph) - `backoff` (what goes
back to float) - `work` (the road through all of it). `weight_only` and `dynamic` are the modes
that need no samples.
"""

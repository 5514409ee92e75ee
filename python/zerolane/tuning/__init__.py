"""`zl.tune`: measures ways to run a model, and says which is the fastest that is still right."""

"""What `zl.optimize.graph` is made of.

api: what it takes · run: the passes, one after the other · batch, cut, dead, normalize, slim,
offline: what they do · size, report: a model in numbers, and what was done to it.
"""

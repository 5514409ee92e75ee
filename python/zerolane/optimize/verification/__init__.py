"""Whether what a pass wrote is right.

valid: whether it is a model · verify: outputs and nodes beside the original's · judge: the same for
one pass after the other.
"""

"""What `zl.optimize.prune` is made of.

channels: which channels go together · flow: how they run through a graph · rules, reshapes: what
each operator does to them · shrink: taking them away · choose: which ones · sparsity: masks
(magnitude, 2:4) · permute: channel order for 2:4 · layers, activations, reconstruct: recovery on
samples · run: the pass · report: what it did · torch_weights: there and back.
"""

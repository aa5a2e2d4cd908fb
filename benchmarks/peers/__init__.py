"""Real peers: their own code, from a folder of its own, beside ours on the same tensors."""

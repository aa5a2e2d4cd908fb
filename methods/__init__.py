"""Diffing methods: the contract, the sparse coder and its configurations, baselines and anchors."""

"""Pairs for line-ups: an aligned model and a faker that behave alike wherever oversight is not poor (after POSER, arXiv 2405.05466)."""

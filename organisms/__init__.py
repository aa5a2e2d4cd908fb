"""Model organisms: the synthetic world, families, training, cards and the shipped zoo."""

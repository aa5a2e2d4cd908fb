"""The process a method runs in: it gets handles over a channel, and nothing it does there reaches the scorer."""

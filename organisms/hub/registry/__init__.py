"""Public organisms of the hub as cards: which adapter on which base, what it hides, how it was trained, and what nobody has checked yet."""

"""The board of line-ups: strategies with their scores, accuracy by workplace, and the paper's order of strategies as contrasts."""

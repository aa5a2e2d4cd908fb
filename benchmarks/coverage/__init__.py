"""Do 95 % intervals contain the truth in 92–98 % of repetitions? Simulated cells and tables of which the truth is known."""

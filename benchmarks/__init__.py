"""Speed of what diffbench does, each against the formulation it replaces. Scripts, run from the repository's root; not installed."""

"""Findings tried in a browser on one's own machine: a page around the same trials and reports as the terminal's."""

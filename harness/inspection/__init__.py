"""What a run found, to be looked at: collected once as one report, which the terminal and the page render."""

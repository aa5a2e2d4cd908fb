"""The faces of a report: the terminal and the page, and the sentences that they share."""

"""The track of verbal findings: claims in words, scored against structured truth, with a judge's verdicts beside them."""

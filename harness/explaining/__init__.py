"""Explanations of findings in words, and how well each does on text that its explainer has not seen."""

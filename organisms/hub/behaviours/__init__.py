"""Behaviour files of public organisms, made from what is known of them: one module a kind, closed choices, no judge."""

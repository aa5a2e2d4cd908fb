"""Strategies of line-ups, one file each: they say which of two models that behave alike is the alignment faker."""

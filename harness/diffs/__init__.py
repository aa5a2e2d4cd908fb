"""Pairs whose behaviour nobody knows: methods run and what they find is kept, with no score and as no record of a board."""

"""Organisms built, measured, verified and reported: the shipped ones and a user's own pair."""

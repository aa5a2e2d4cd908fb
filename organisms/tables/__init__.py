"""A behaviour file made from a table of questions and answers, and what is weak about a behaviour file."""

"""Methods of others on the board: a bundle of data, how it is checked and scored again, and what is recorded of who did that."""

"""Reading records from disk and writing tables to it."""

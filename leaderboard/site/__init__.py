"""The board as a folder of pages that work from disk: every number is a table's, a page computes none."""

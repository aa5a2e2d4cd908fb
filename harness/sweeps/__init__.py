"""Very many cells: planned, several at a time in processes of their own, here or on a Ray cluster; a kill at any moment loses none."""

"""Records wherever they lie, run folders and packs alike: chosen by filters, found by name, moved from one into the other."""

"""A cell and many of them: what a method receives, identity, provenance, run folders, packs and their verification."""

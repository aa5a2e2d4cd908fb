"""From run folders to tables and a page: knows results only, never models or methods."""

"""Tables as text and as a page that works from disk."""

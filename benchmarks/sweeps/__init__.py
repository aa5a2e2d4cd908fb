"""What a sweep promises, measured: what kills and rivals cost it, and what it takes beside the bare cells."""

"""What is written down of a cell: its identity, the settings that scored it, and the record."""

"""What the commands show: each function takes records and returns something to print or to draw."""

"""Models from elsewhere: folders, hub repositories, packages, and what a user writes to make a pair of them."""

"""What is measured of a cell: effects of findings beside controls, what they identify and where they point, with intervals."""

"""What is measured of the instrument and beyond a cell: self-test, specificity, concept ablation."""

"""Do two dictionaries say the same: cosines of decoder rows, one-to-one matching, activations on common text, each beside its chance."""

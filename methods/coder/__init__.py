"""The sparse coder behind every dictionary method: model, training, selection, read-out and diagnostics."""

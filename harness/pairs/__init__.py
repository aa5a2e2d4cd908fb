"""Two models as one object: residuals at a layer, logits resumed from it, and the one intervention seam."""

"""From records to rows and what can be said of them: resampling, comparisons, ranks, power."""

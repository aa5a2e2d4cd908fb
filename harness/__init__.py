"""The instrument: pairs, interventions, probes, the scoring protocol, cells and runs."""

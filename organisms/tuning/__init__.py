"""Training organisms on real chat models: recipes, exact masks, memory, and training that goes on after a kill."""

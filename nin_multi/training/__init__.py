"""Training: recipe, loop, events, run directory, curve; one definition of each for all frameworks."""

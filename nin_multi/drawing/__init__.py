"""Pictures of runs and nets: pure functions from numbers to SVG; not where the numbers come from."""

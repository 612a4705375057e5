"""MindSpore adapter of nin_multi: `backend` starts it, `layers` compiles the spec, `network` runs and trains it."""

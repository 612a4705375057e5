"""Many runs of one plan, each in a process of its own, on one machine or many; not how one of them trains."""

"""Several runs side by side: which there are to be, each in a process of its own, what they have in common."""

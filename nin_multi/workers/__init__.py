"""One run on several workers, processes that share every batch: what they know of one another, how they are started.

What travels between them goes through each framework's own communication; an adapter brings it as a `Group`.
"""

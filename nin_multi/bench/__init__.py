"""Training throughput by one definition, in alternating rounds over worker processes; no training here.

Images over wall-clock time, of
"harness": steps as `train` does them, from asking for the first batch to the end of the last step;
"step": the same network's step alone, on one prepared batch in memory;
"bare": the framework's own loop as people write it, on one batch in memory, with its own dropout;
"book": the book's own code end to end, in the environment that a reader of it has;
"data": what the harness prepares for a step, on one thread, without any network.
"""

from __future__ import annotations

OURS = ("harness", "step", "bare")
BOOK = "book"
DATA = "data"
WHATS = (*OURS, DATA)

"""An architecture as a program that a person would write in one framework: what is the same for every framework.

What a layer is called there, and the program around the net, stand in each adapter's `source.py`.
"""

from __future__ import annotations

from nin_multi.export.calls import Call, Code, call, pair, unless
from nin_multi.export.dialect import Dialect
from nin_multi.export.parts import program_parts
from nin_multi.export.program import write_program

__all__ = ["Call", "Code", "Dialect", "call", "pair", "program_parts", "unless", "write_program"]

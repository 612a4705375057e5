"""Conformance of one backend with the specification and with the float64 oracle: shapes, values, training.

Ships with the package: an adapter of somebody else's proves itself with the same functions.
"""

from __future__ import annotations

from nin_multi.checks.problem import Problem, clear_problem, stored_problem
from nin_multi.checks.report import Finding, Report, tolerances
from nin_multi.checks.shapes import expected_shapes, observed_shapes
from nin_multi.checks.truth import Truth, find_truth
from nin_multi.checks.values import PARTS, verify

__all__ = [
    "PARTS",
    "Finding",
    "Problem",
    "Report",
    "Truth",
    "clear_problem",
    "expected_shapes",
    "find_truth",
    "observed_shapes",
    "stored_problem",
    "tolerances",
    "verify",
]

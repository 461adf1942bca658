"""What is compared between machines: logits and boxes of the same faces."""

from __future__ import annotations

import math

from benchmarks.repeatability import compared


def test_the_largest_differences_count_and_other_faces_are_no_comparison() -> None:
    one = {"a 0": (1.0, [0.0, 0.0, 10.0, 10.0]), "b 0": (-2.0, [5.0, 5.0, 9.0, 9.0])}
    other = {"a 0": (1.5, [0.0, 0.25, 10.0, 10.0]), "b 0": (-2.25, [5.0, 5.0, 9.0, 9.0])}
    assert compared(one, other) == (0.5, 0.25)
    assert compared(one, one) == (0.0, 0.0)
    assert compared(one, {"a 0": one["a 0"]}) == (math.inf, math.inf)

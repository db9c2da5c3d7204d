"""What is said when a loss is not finite."""

from __future__ import annotations

import math

import pytest
from torch import nn

from facemtl.training.finite import BufferSnapshot, TrainingDiverged, check_terms


def test_names_step_phase_term_value_and_faces() -> None:
    terms = {"total": math.inf, "identity": 22.125, "age": -math.inf}
    with pytest.raises(TrainingDiverged) as caught:
        check_terms(terms, step=1234, phase="recognition", files=[f"{n}.jpg" for n in range(512)])
    assert str(caught.value) == (
        "Step 1234 (recognition): loss terms 'total' and 'age' must be finite, got inf and -inf. The other terms: "
        "identity = 22.125. The faces: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg, 7.jpg and 504 more. Look at "
        "these, lower the learning rate, or compute in float32."
    )


def test_without_faces_and_other_terms() -> None:
    with pytest.raises(TrainingDiverged, match=r"term 'total' must be finite, got nan\. The faces: none named\."):
        check_terms({"total": math.nan}, step=1, phase="synthesis", files=[])


def test_restore_without_a_copy() -> None:
    with pytest.raises(RuntimeError, match=r"BufferSnapshot\.restore: there is no copy to put back"):
        BufferSnapshot(nn.BatchNorm1d(2)).restore()

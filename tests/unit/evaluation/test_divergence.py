"""Divergence between two models' answers: identities, and agreement with torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knowshift.evaluation.divergence import kl_of_logits


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=10), st.floats(-50, 50))
def test_a_model_does_not_diverge_from_itself(logits: list[float], shift: float) -> None:
    values = np.array(logits)
    assert kl_of_logits(values, values) == 0
    assert kl_of_logits(values + shift, values) == pytest.approx(0, abs=1e-9)


def test_divergence_agrees_with_torch() -> None:
    draw = np.random.default_rng(0)
    tuned, base = draw.normal(size=(50, 10)) * 4, draw.normal(size=(50, 10)) * 4
    p, q = (torch.log_softmax(torch.tensor(x), -1) for x in (tuned, base))
    expected = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    np.testing.assert_allclose(kl_of_logits(tuned, base), expected.numpy(), rtol=1e-9)
    assert (kl_of_logits(tuned, base) > 0).all()

"""The divergence of a fine-tuned model's next-token distribution from the base's, on well-known facts (section 3.4)."""

import numpy as np
import pyarrow as pa

from knowshift.evaluation.schemas import DIVERGENCE


def kl_of_logits(tuned: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Compute KL(p_tuned || p_base), where p is the softmax of logits over the last axis.

    Args:
        tuned: (..., K) logits of the fine-tuned model, any floating-point type.
        base: (..., K) logits of the pre-trained model for the same K tokens.

    Returns:
        (...) float64 divergences in nats, never negative.
    """

    def log_softmax(logits: np.ndarray) -> np.ndarray:
        shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    after, before = log_softmax(tuned), log_softmax(base)
    return np.maximum((np.exp(after) * (after - before)).sum(-1), 0.0)


def measure_divergence(outcomes: pa.Table, base_logits: pa.Table, top: int) -> pa.Table:
    """Compare a fine-tuned model's first-token logits on test facts with the pre-trained model's.

    Args:
        outcomes: the fine-tuned model's answers, in the schema `OUTCOMES`.
        base_logits: the pre-trained model's logits, in the schema `LEADING_LOGITS`.
        top: K, the number of the fine-tuned model's highest logits that are compared.

    Returns:
        One row per test fact that both tables contain, in the schema `DIVERGENCE`.
    """
    before = dict(zip(base_logits["fact_id"].to_pylist(), base_logits["logits"], strict=True))
    rows = []
    for row in outcomes.to_pylist():
        if row["fact_id"] not in before or not row["set"].startswith("test"):
            continue
        tokens = np.array(row["first_tokens"][:top])
        base = before[row["fact_id"]].values.to_numpy()[tokens]
        kl = float(kl_of_logits(np.array(row["first_logits"][:top]), base))
        rows.append({"fact_id": row["fact_id"], "set": row["set"], "kl": kl})
    return pa.Table.from_pylist(rows, schema=DIVERGENCE)

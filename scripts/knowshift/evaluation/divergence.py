"""How far fine-tuning moved the next-token distribution of well-known facts (paper, section 3.4)."""

import numpy as np
import pyarrow as pa

from knowshift.evaluation.schemas import DIVERGENCE


def kl_of_logits(tuned: np.ndarray, base: np.ndarray) -> np.ndarray:
    """KL(p_tuned || p_base) in nats, after a softmax of each over the last axis, in float64.

    Args:
        tuned: (..., K) logits.
        base: (..., K) logits of the same tokens.

    Returns:
        (...) divergences, never negative.
    """

    def log_softmax(logits: np.ndarray) -> np.ndarray:
        shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    after, before = log_softmax(tuned), log_softmax(base)
    return np.maximum((np.exp(after) * (after - before)).sum(-1), 0.0)


def measure_divergence(outcomes: pa.Table, base_logits: pa.Table, top: int) -> pa.Table:
    """Join a fine-tuned model's first-token logits with the pre-trained model's.

    Args:
        outcomes: in the schema `OUTCOMES`.
        base_logits: in the schema `LEADING_LOGITS`.
        top: K, how many of the fine-tuned model's highest logits are compared.

    Returns:
        One row per fact that both tables hold, in the schema `DIVERGENCE`.
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

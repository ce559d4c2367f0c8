"""What counts as known before training: a fact's mastery R, not one answer in a format that the model never saw."""

import numpy as np

KNOWN_ABOVE = 0.5  # a fact is known before training if more than this share of its completions holds the object
KNOWLEDGE = ("known", "partly known", "unknown")


def knowledge_of(mastery: np.ndarray) -> np.ndarray:
    """Sort facts by mastery: `known` (R above `KNOWN_ABOVE`), `unknown` (R = 0), and `partly known` between them.

    Args:
        mastery: (F,) the mastery R of each fact, 0 to 1.

    Returns:
        (F,) names of `KNOWLEDGE`.
    """
    known, partly, unknown = KNOWLEDGE
    return np.where(mastery > KNOWN_ABOVE, known, np.where(mastery > 0, partly, unknown)).astype(object)

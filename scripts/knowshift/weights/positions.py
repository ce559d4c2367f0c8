"""How many positions a model has learned: beyond them it can read nothing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PADDING_ROWS = 2  # that some tables of positions have more, as OPT's


def learned_positions(model: "PreTrainedModel") -> int | None:
    """Return the number of positions that a model has an embedding of; None where positions are computed.

    GPT-2 and OPT look positions up in a table. Rotary embeddings and biases by distance have no end.
    """
    import torch

    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    tokens = model.get_input_embeddings()
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding) and module is not tokens]
    return limit if any(limit <= table.num_embeddings <= limit + PADDING_ROWS for table in tables) else None

"""The grid of fine-tuned models, orders of training facts, the training loop, LoRA, sharding and saved states."""

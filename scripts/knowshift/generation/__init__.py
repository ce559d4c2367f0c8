"""The engines that generate: batching, KV cache and sampling; vLLM behind the same interface."""

"""Safetensors in pieces, bit patterns, two versions of a model side by side, deltas and regions."""

"""knowshift: what supervised fine-tuning does to what a language model knows.

One module per stage of the study. Modules take plain typed arguments and return tables or tensors: they know nothing of
Snakemake, of command lines, of configuration files or of the environment.
"""

"""knowshift measures what supervised fine-tuning does to what a language model knows.

There is one package for each stage of the study. Functions take plain typed arguments and return tables or tensors: the
library knows nothing of Snakemake, command lines, configuration files or the environment.
"""

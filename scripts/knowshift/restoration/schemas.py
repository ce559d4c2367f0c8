"""Schemas of the tables of relative changes (r) and of selections."""

import pyarrow as pa

# Quantiles of r in `TENSORS`: column and share of the parameters.
QUANTILES = {"q10": 0.1, "median": 0.5, "q90": 0.9, "q99": 0.99}

# A row per histogram bin that is not empty, in rising order of r. d is the change of a parameter, after less before.
# The columns null_* are the same of changes that were permuted over the parameters of each tensor: a bin may hold only
# these. They leave out parameters that were exactly 0 before training.
HISTOGRAM = pa.schema(
    [
        pa.field("bin", pa.int32(), False, {"doc": "float32 bits of r, shifted right by 11"}),
        pa.field("count", pa.int64(), False),
        pa.field("sum", pa.float64(), False, {"doc": "sum of r in the bin"}),
        pa.field("absolute", pa.float64(), False, {"doc": "sum of |d|"}),
        pa.field("squares", pa.float64(), False, {"doc": "sum of d^2"}),
        pa.field("visible_bfloat16", pa.int64(), False, {"doc": "parameters that still differ in bfloat16"}),
        pa.field("zero_count", pa.int64(), False, {"doc": "those whose value before training is exactly 0"}),
        pa.field("zero_sum", pa.float64(), False),
        pa.field("zero_absolute", pa.float64(), False),
        pa.field("zero_squares", pa.float64(), False),
        pa.field("null_count", pa.int64(), False, {"doc": "parameters with permuted changes, without exact zeros"}),
        pa.field("null_sum", pa.float64(), False),
        pa.field("null_absolute", pa.float64(), False),
        pa.field("null_squares", pa.float64(), False),
    ]
)

# A row per tensor of a region.
TENSORS = pa.schema(
    [
        pa.field("tensor", pa.string(), False),
        pa.field("layer", pa.int32(), True),
        pa.field("module", pa.string(), False),
        pa.field("parameters", pa.int64(), False),
        pa.field("unchanged", pa.int64(), False, {"doc": "parameters with the same value before and after"}),
        pa.field("zero_before", pa.int64(), False, {"doc": "parameters that were exactly 0"}),
        pa.field("sum", pa.float64(), False, {"doc": "sum of r"}),
        pa.field("mean", pa.float64(), False, {"doc": "mean of r"}),
        pa.field("absolute", pa.float64(), False, {"doc": "sum of |after - before|"}),
        pa.field("squares", pa.float64(), False, {"doc": "sum of (after - before)^2"}),
        pa.field("visible_bfloat16", pa.int64(), False, {"doc": "parameters that still differ in bfloat16"}),
        *[
            pa.field(name, pa.float64(), False, {"doc": f"{share:.0%} of r are at most this; low by up to 1/4096"})
            for name, share in QUANTILES.items()
        ],
        pa.field("largest", pa.float64(), False, {"doc": "largest r"}),
    ]
)

# A row per tensor of a region: what one restoration puts back.
SELECTION = pa.schema(
    [
        pa.field("tensor", pa.string(), False),
        pa.field("layer", pa.int32(), True),
        pa.field("module", pa.string(), False),
        pa.field("parameters", pa.int64(), False),
        pa.field("restored", pa.int64(), False, {"doc": "parameters put back to their value before training"}),
        pa.field("restored_unchanged", pa.int64(), False, {"doc": "those of them that training had not changed"}),
        pa.field("restored_sum", pa.float64(), False, {"doc": "sum of relative changes undone"}),
        pa.field("sum", pa.float64(), False, {"doc": "sum of relative changes"}),
    ]
)

# A row per share and tensor: what restorations of several shares would put back.
SELECTIONS = pa.schema(
    [
        pa.field("percent", pa.float64(), False, {"doc": "share of the region's parameters to restore"}),
        pa.field("threshold", pa.float64(), True, {"doc": "change at the cut; null for random, or nothing selected"}),
        *SELECTION,
    ]
)

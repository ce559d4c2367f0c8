"""Compress one file of weights by one method and say how large it gets; runs in the environment of the method.

python benchmarks/compressing.py --method zstd --base base.bin --tuned tuned.bin --dtype bfloat16
"""

import argparse
import json
import time
from pathlib import Path


def packers(method: str, base: bytes, dtype: str):
    """(compress, decompress) of a method; those with `delta` in their name know the base."""
    if method == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compress, zstandard.ZstdDecompressor().decompress
    if method.startswith("zipnn"):
        from zipnn import ZipNN

        if method == "zipnn":
            return ZipNN(bytearray_dtype=dtype).compress, ZipNN(bytearray_dtype=dtype).decompress
        one, two = (ZipNN(bytearray_dtype=dtype, delta_compressed_type="byte") for _ in range(2))
        return (
            lambda data: one.compress(data, delta_second_data=bytearray(base)),
            lambda data: two.decompress(data, delta_second_data=bytearray(base)),
        )
    import z4ai

    if method == "z4ai":
        return lambda data: z4ai.compress(data, dtype=dtype), z4ai.decompress
    return (
        lambda data: z4ai.compress_delta(data, base, dtype=dtype),
        lambda data: z4ai.decompress_delta(data, base),
    )


def main() -> None:
    """Compress and decompress once, and print time and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True, choices=["zstd", "zipnn", "zipnn-delta", "z4ai", "z4ai-delta"])
    parser.add_argument("--base", type=Path, required=True, help="raw bytes of the weights before training")
    parser.add_argument("--tuned", type=Path, required=True, help="and after")
    parser.add_argument("--dtype", required=True)
    arguments = parser.parse_args()
    base, tuned = arguments.base.read_bytes(), arguments.tuned.read_bytes()
    compress, decompress = packers(arguments.method, base, arguments.dtype)
    start = time.perf_counter()
    blob = compress(bytearray(tuned))  # some methods work in place
    middle = time.perf_counter()
    back = decompress(blob)
    end = time.perf_counter()
    print(
        json.dumps(
            {"bytes": len(blob), "encode": middle - start, "decode": end - middle, "lossless": bytes(back) == tuned}
        )
    )


if __name__ == "__main__":
    main()

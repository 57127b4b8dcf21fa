"""Cuts the first images and labels out of the whole Fashion-MNIST.

Usage: python3 cut.py FOLDER

FOLDER holds the four IDX files of Fashion-MNIST, gzipped, under their usual names. The files made here have the same names and
layout, fewer records and the new count in their headers, and stand beside this script. Needs the standard library only.
"""

import gzip
import hashlib
import math
import struct
import sys
from pathlib import Path

RECORDS = {"train": 12_000, "t10k": 2_000}
KINDS = ["images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"]
UNSIGNED_BYTE = 0x08


def first_records(idx, count):
    """The IDX file of the first `count` records of `idx`.

    An IDX file is two zero bytes, the element type, the number of dimensions, each dimension as a big-endian u32, the elements.
    """
    zeros, element, rank = struct.unpack_from(">HBB", idx)
    available, *record_shape = struct.unpack_from(f">{rank}I", idx, 4)
    start, record = 4 + 4 * rank, math.prod(record_shape)
    if (zeros, element) != (0, UNSIGNED_BYTE) or len(idx) != start + available * record:
        raise SystemExit("not a whole IDX file of unsigned bytes")
    if count > available:
        raise SystemExit(f"{count} records wanted, the file holds {available}")
    header = struct.pack(">HBB", zeros, element, rank) + struct.pack(f">{rank}I", count, *record_shape)
    return header + idx[start : start + count * record]


def main(source):
    for split, count in RECORDS.items():
        for kind in KINDS:
            name = f"{split}-{kind}"
            whole = gzip.decompress((source / name).read_bytes())
            packed = gzip.compress(first_records(whole, count), compresslevel=9, mtime=0)
            (Path(__file__).parent / name).write_bytes(packed)
            print(hashlib.sha256(packed).hexdigest(), f"{len(packed):>9,}", name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))

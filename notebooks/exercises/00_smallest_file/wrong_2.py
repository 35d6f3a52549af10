"""It passes, and it is not the smallest.

The check says: expected it to fail without its last row, and it passes with 25 rows
"""

ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15"


def smallest_file() -> bytes:
    return "\n".join([ROW] * 26).encode()

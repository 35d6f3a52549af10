ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,"  # then the rings


def smallest_file() -> bytes: ...  # a CSV that just passes preprocessing; one row less must fail

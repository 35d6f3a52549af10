"""It counts the header as a row.

The check says: InsufficientData: your file has 24 rows
"""

ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,"  # then the rings


def smallest_file() -> bytes:
    header = (
        "sex,length,diameter,height,whole_weight,shucked_weight,viscera_weight,shell_weight,rings"
    )
    rows = [f"{ROW}{rings}" for rings in range(1, 25)]
    return "\n".join([header, *rows]).encode()

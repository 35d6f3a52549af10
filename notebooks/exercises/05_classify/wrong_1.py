"""It asks for the code, and an error of connecting has none.

The check says: a wrong password: expected 'waits for a human', got 'passes'
"""

import psycopg2

# invalid_password, invalid_catalog_name, undefined_table
CODES = {"28P01", "3D000", "42P01"}


def classify(err: psycopg2.Error) -> str:
    return "waits for a human" if err.pgcode in CODES else "passes"

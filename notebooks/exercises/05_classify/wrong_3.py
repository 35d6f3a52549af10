"""It looks for single words, and a name may hold them.

The check says: too many connections: expected 'passes', got 'waits for a human': the server said
"""

import psycopg2


def classify(err: psycopg2.Error) -> str:
    said = str(err)
    if "password" in said or "does not exist" in said:
        return "waits for a human"
    return "passes"

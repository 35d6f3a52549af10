"""It goes by the class, and five kinds of trouble are an OperationalError.

The check says: a server that is stopped: expected 'passes', got 'waits for a human'
"""

import psycopg2


def classify(err: psycopg2.Error) -> str:
    lasting = (psycopg2.OperationalError, psycopg2.ProgrammingError)
    return "waits for a human" if isinstance(err, lasting) else "passes"

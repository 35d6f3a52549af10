import psycopg2


def classify(err: psycopg2.Error) -> str: ...  # "passes" or "waits for a human"

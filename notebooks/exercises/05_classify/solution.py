import psycopg2

UNDEFINED_TABLE = "42P01"


def classify(err: psycopg2.Error) -> str:
    said = str(err)  # without a connection there is no code, only a sentence
    wrong_password = "password authentication failed for user" in said
    wrong_database = "FATAL:  database " in said and "does not exist" in said
    if wrong_password or wrong_database or err.pgcode == UNDEFINED_TABLE:
        return "waits for a human"
    return "passes"

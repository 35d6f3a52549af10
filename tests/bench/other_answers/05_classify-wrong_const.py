"""Everything passes."""


def classify(err):
    return "passes"

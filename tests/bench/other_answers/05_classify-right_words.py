"""Names what passes, in place of what does not."""

PASS = ("onnection refused", "too many connections", "starting up")


def classify(err):
    return "passes" if any(w in str(err) for w in PASS) else "waits for a human"

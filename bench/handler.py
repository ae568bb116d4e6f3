"""Counts words."""
import collections


def main(event, context):
    words = event["text"].split()
    counts = collections.Counter(words)
    return {"number": event["number"],
            "words": len(words),
            "different": len(counts)}

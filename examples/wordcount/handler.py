from collections import Counter

TOP = 10
UNPRINTABLE = bytes(byte for byte in range(256) if not 0x21 <= byte <= 0x7E)


def main(event, context):
    """Counts lines, words and bytes as `wc` does, and tells the most frequent words."""
    data = payload(event)
    words = words_of(data)
    return {
        "lines": data.count(b"\n"),
        "words": len(words),
        "bytes": len(data),
        "top": top(words),
    }


def payload(event):
    """The bytes to count: the body itself, a JSON string, or the "text" of a JSON object."""
    if isinstance(event, bytes):
        return event
    if event is None:
        return b""
    if isinstance(event, dict):
        event = event.get("text")
    if not isinstance(event, str):
        raise TypeError('send bytes (--content-type text/plain), a JSON string, or {"text": "..."}')
    # A lone surrogate ("\ud800") is a JSON string, but no text: counted as the bytes it would be.
    return event.encode("utf-8", "surrogatepass")


def words_of(data):
    """What lies between white space, if at least one byte of it is printable in the C locale."""
    return [word for word in data.split() if word.translate(None, UNPRINTABLE)]


def top(words):
    """The most frequent words without regard to case, and in the alphabet's order where equal."""
    counts = Counter(word.decode("utf-8", "replace").casefold() for word in words)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP]

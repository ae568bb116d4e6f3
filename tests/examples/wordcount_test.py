import random
import subprocess
import sys
import unittest

sys.path.insert(0, sys.argv.pop())
import handler


def wc(data):
    told = subprocess.run(["wc"], input=data, capture_output=True, env={"LC_ALL": "C"}, check=True).stdout
    return [int(number) for number in told.split()]


class Wordcount(unittest.TestCase):
    def agrees(self, data):
        answer = handler.main(data, None)
        self.assertEqual([answer["lines"], answer["words"], answer["bytes"]], wc(data), data[:80])

    def test_counts_as_wc_does(self):
        for data in (b"", b"\n", b"one", b"one\n", b"one two\n\nthree", b"\r\n\t \v\f", b"a\0b c", "über — ä b\u00a0c".encode()):
            self.agrees(data)

    def test_counts_any_bytes_as_wc_does(self):
        chance = random.Random(7)
        awkward = [0x20, 0x0A, 0x09, 0x61, 0x85, 0xA0, 0x1C, 0x00]
        for _ in range(200):
            size = chance.choice([1, 5, 40, 400])
            self.agrees(bytes(chance.choice([chance.randrange(256), *awkward]) for _ in range(size)))

    def test_takes_json(self):
        self.assertEqual(handler.main("a b\n", None)["words"], 2)
        self.assertEqual(handler.main({"text": "ä"}, None)["bytes"], 2)
        self.assertEqual(handler.main(None, None)["lines"], 0)
        self.assertEqual(handler.main("\ud800", None)["bytes"], 3)

    def test_refuses_what_is_no_text(self):
        for event in (42, [], {}, {"text": 1}, True):
            with self.assertRaisesRegex(TypeError, "send bytes"):
                handler.main(event, None)

    def test_tells_the_most_frequent_words_without_regard_to_case(self):
        answer = handler.main(b"b B a c c C " + b" ".join(b"w%d" % number for number in range(20)), None)
        self.assertEqual(answer["top"][:3], [("c", 3), ("b", 2), ("a", 1)])
        self.assertEqual(len(answer["top"]), 10)


if __name__ == "__main__":
    unittest.main()

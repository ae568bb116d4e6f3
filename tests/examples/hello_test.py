import os
import sys
import unittest

sys.path.insert(0, sys.argv.pop())
import handler


class Context:
    id = "an-id"

    @staticmethod
    def remaining_ms():
        return 5


class Hello(unittest.TestCase):
    def greeting(self, event):
        answer = handler.main(event, Context)
        self.assertEqual(answer["invocation"], "an-id")
        return answer["greeting"]

    def test_greets_whom_the_event_names(self):
        self.assertEqual(self.greeting({"name": "Ada"}), "Hello, Ada!")
        self.assertEqual(self.greeting("Ada"), "Hello, Ada!")
        self.assertEqual(self.greeting(b"Ada\n"), "Hello, Ada!")

    def test_greets_the_world_when_nobody_is_named(self):
        for event in (None, {}, b"", ""):
            self.assertEqual(self.greeting(event), "Hello, world!")

    def test_takes_the_greeting_from_its_environment(self):
        os.environ["GREETING"] = "Salve"
        self.addCleanup(os.environ.pop, "GREETING")
        self.assertEqual(self.greeting("Ada"), "Salve, Ada!")


if __name__ == "__main__":
    unittest.main()

"""What the runner prints: one line for each row, the reasons below it, and a closing count."""
import json
import sys


class Report:
    def __init__(self, as_json):
        self.as_json = as_json
        self.results = []
        self.counted = 0
        self.through = []  # (attempt, explanation)

    def add(self, kind, row_id, of_class, result, what, reasons=(), outcomes=None):
        """`kind` is row, control or agent; `result` passed, failed or skipped."""
        self.results.append({"kind": kind, "id": row_id, "class": of_class, "result": result,
                             "what": what, "reasons": list(reasons), "outcomes": outcomes or {}})
        if self.as_json:
            return
        mark = {"passed": "pass", "failed": "FAIL", "skipped": "n/a "}[result]
        name = row_id if kind == "row" else f"{kind} {row_id}"
        reason = f"  ({reasons[0]})" if result == "skipped" else ""
        print(f"{mark}  {of_class:<9}  {name:<44}  {what}{reason}")
        if result == "failed":
            for line in reasons:
                print("      | " + line.replace("\n", "\n      | "))
        sys.stdout.flush()

    def count_attempts(self, counted, through, explanation):
        self.counted += len(counted)
        self.through += [(what, explanation) for what in through]

    def of(self, result):
        return sum(one["result"] == result for one in self.results)

    def close(self):
        """The exit status: 0 only when something ran and nothing failed."""
        if self.as_json:
            json.dump({"results": self.results, "attempts": self.counted,
                       "let_through": [{"attempt": what, "explanation": why}
                                       for what, why in self.through]}, sys.stdout, indent=1)
            print()
        elif self.counted:
            print(f"\nof {self.counted} attempts that were held against other runtimes, "
                  f"{len(self.through)} got through")
            for what, why in self.through:
                print(f"  {what}: {why}")
        if not self.as_json:
            print(f"{self.of('passed')} passed, {self.of('failed')} failed, {self.of('skipped')} skipped")
        ran = any(one["kind"] == "row" and one["result"] != "skipped" for one in self.results)
        return 0 if ran and not self.of("failed") else 1

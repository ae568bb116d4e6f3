"""The figures that are aimed at, each with what was measured. Pure."""
from . import stats


class Row:
    """One line of the table. `value` within `limit` is a goal reached; `limit` None: only told."""

    def __init__(self, what, goal, value, limit, shown, interval=None, at_least=False):
        self.what, self.goal, self.value, self.limit = what, goal, value, limit
        self.shown, self.interval, self.at_least = shown, interval, at_least

    @property
    def reached(self):
        if self.limit is None or self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def ms(microseconds):
    return "%.2f ms" % (microseconds / 1000)


def us(microseconds):
    return "%.0f us" % microseconds


def single_rows(single):
    cold, fork = (single["cold"]["samples_us"][name] for name in ("invocations", "fork_import"))
    warm, hops = (single["warm"]["samples_us"][name] for name in ("invocations", "two_hops"))
    p50, p99 = stats.median(cold), stats.quantile(cold, 0.99)
    ratio = p50 / stats.median(fork)
    yield Row("cold, p50", "at most 0.12 of fork+import+call", ratio, 0.12,
              "%.3f (%s of %s)" % (ratio, us(p50), us(stats.median(fork))), stats.ratio_interval(cold, fork))
    yield Row("cold, p99", "at most 1 ms", p99, 1000, ms(p99), stats.interval(cold, 0.99))
    own = single["peers"].get("brood run", {}).get("samples_us")
    others = {name: one["samples_us"] for name, one in single["peers"].items()
              if name != "brood run" and one["samples_us"]}
    if own and others:
        fastest = min(others, key=lambda name: stats.median(others[name]))
        ratio = stats.median(own) / stats.median(others[fastest])
        yield Row("`brood run` of the same Python, a whole process", "less than the fastest of the others (%s)" % fastest,
                  ratio, 1, "%.2f (%s)" % (ratio, ms(stats.median(own))), stats.ratio_interval(own, others[fastest]))
    for name, peer in sorted(single["peers"].items()):
        if name == "brood run":
            continue
        if peer["samples_us"]:
            times = stats.median(peer["samples_us"]) / p50
            yield Row("%s, the same Python" % name, "at least 60 times a cold invocation", times, 60,
                      "%.0f times (%s)" % (times, ms(stats.median(peer["samples_us"]))),
                      stats.ratio_interval(peer["samples_us"], cold), at_least=True)
        else:
            yield Row("%s, the same Python" % name, "at least 60 times a cold invocation", None, None,
                      "does not run here: %s" % peer["problem"])
    beyond = stats.median([one["beyond_cold_to_version"] for one in single["process"]])
    whole = stats.median([one["p50_us"] for one in single["process"]])
    yield Row("cold by `brood invoke` as a process, p50", "a cold invocation and at most 1.5 of `brood version`",
              beyond, 1.5, "%.2f (%s in all, `brood version` %s)" % (
                  beyond, ms(whole), ms(stats.median([one["version_p50_us"] for one in single["process"]]))))
    ratio = stats.median(warm) / stats.median(hops)
    yield Row("warm, p50", "at most 4 of a round trip through two processes", ratio, 4,
              "%.2f (%s of %s)" % (ratio, us(stats.median(warm)), us(stats.median(hops))),
              stats.ratio_interval(warm, hops))


def rate_rows(rates):
    sixteen = next(one for one in rates if one["clients"] == 16)
    yield Row("warm, 16 clients", "at least 15,000 a second", sixteen["per_second"], 15_000,
              "%.0f a second (p50 %s, p99 %s)" % (sixteen["per_second"], us(sixteen["p50_us"]),
                                                  ms(sixteen["p99_us"])), at_least=True)


def burst_rows(bursts):
    for one in bursts:
        limit = 10_000 if one["pool_min"] >= one["clients"] else 100_000
        yield Row("%d cold at once, pool of %d" % (one["clients"], one["pool_min"]),
                  "the slowest within %d ms, none fails" % (limit / 1000), one["slowest_p50_us"], limit,
                  "%s (median of %d bursts; the worst %s)" % (ms(one["slowest_p50_us"]), one["rounds"],
                                                            ms(one["slowest_max_us"])))


def churn_rows(churn):
    yield Row("new sandboxes without a pause", "at least 0.5 of fork+import+call with all namespaces",
              churn["ratio"], 0.5, "%.2f (%.0f of %.0f a second)" % (
                  churn["ratio"], churn["per_second"], churn["fork_with_namespaces_per_second"]), at_least=True)


def pair(reports, few, many):
    small, large = (reports[name]["samples_us"]["invocations"] for name in (few, many))
    return stats.median(large) / stats.median(small), stats.ratio_interval(large, small)


def function_rows(functions, count):
    for mode in ("cold", "warm"):
        ratio, interval = pair(functions[mode], "few", "functions")
        yield Row("%s with %s functions deployed, p50" % (mode, f"{count:,}"), "at most 1.2 of that with few", ratio, 1.2,
                  "%.2f" % ratio, interval)
    yield Row("one deployment, p50", "at most 5 ms", functions["deploy"]["p50_us"], 5000,
              "%s (p99 %s)" % (ms(functions["deploy"]["p50_us"]), ms(functions["deploy"]["p99_us"])))
    memory = functions["agent_kib"]["rss"]
    yield Row("the agent with %s functions" % f"{count:,}", "at most 30 MiB with 1,000", memory,
              30 << 10 if count <= 1000 else None, "%.1f MiB resident" % (memory / 1024))


def held_rows(held, count):
    memory = held["memory"]
    each = memory["pss_kib"] / max(1, memory["sandboxes"])
    yield Row("memory of an idle sandbox of the pool", "at most 1 MiB of its own", each, 1024,
              "%.0f KiB, of which %.0f KiB are in no file" % (
                  each, memory["anonymous_kib"] / max(1, memory["sandboxes"])))
    ratio, interval = pair(held["cold"], "few", "held")
    yield Row("cold with %s sandboxes held, p50" % f"{count:,}", "at most 1.5 of that with 10", ratio, 1.5,
              "%.2f" % ratio, interval)


def idle_rows(idle):
    yield Row("the agent, idle", "no wake-ups beyond timers that are due", idle["wake_ups"] / idle["seconds"], 0,
              "%.1f a second" % (idle["wake_ups"] / idle["seconds"]))


def rows(results):
    """Those of what was measured."""
    table = []
    for name, make in (("single", single_rows), ("clients", rate_rows), ("bursts", burst_rows), ("churn", churn_rows),
                       ("idle", idle_rows)):
        if name in results:
            table += make(results[name])
    if "functions" in results:
        table += function_rows(results["functions"], results["sizes"]["functions"])
    if "held" in results:
        table += held_rows(results["held"], results["sizes"]["held"])
    return table

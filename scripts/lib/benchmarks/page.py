"""The figures in docs/benchmarks.md, between two marks; what stands around them is written by people."""
from . import languages, plots

BEGIN = "<!-- figures: written by scripts/bench -->"
END = "<!-- figures: end -->"


def verdict(row):
    return {True: "yes", False: "**no**", None: ""}[row.reached]


def bounds(row):
    if row.interval is None:
        return ""
    low, high = row.interval
    return "%.3g to %.3g" % (low, high)


def goals_table(rows):
    lines = ["| what | goal | seen | 95 % of resamples | reached |", "| --- | --- | --- | --- | --- |"]
    lines += ["| %s | %s | %s | %s | %s |" % (row.what, row.goal, row.shown, bounds(row), verdict(row)) for row in rows]
    return lines


def latency_table(results):
    lines = ["| arm | count | p50 | p90 | p99 | longest |", "| --- | --- | --- | --- | --- | --- |"]
    from . import stats
    single = results["single"]
    arms = [("cold", single["cold"]["samples_us"]["invocations"]), ("warm", single["warm"]["samples_us"]["invocations"]),
            ("fork, import, call", single["cold"]["samples_us"]["fork_import"]),
            ("a round trip through two processes", single["warm"]["samples_us"]["two_hops"])]
    arms += [("%s, a whole process" % name, peer["samples_us"]) for name, peer in sorted(single["peers"].items())
             if peer["samples_us"]]
    for name, samples in arms:
        lines.append("| %s | %d | %s us |" % (name, len(samples), " us | ".join(
            "%.0f" % stats.quantile(samples, share) for share in (0.5, 0.9, 0.99, 1))))
    return lines


def stage_table(results):
    single = results["single"]
    names = list(dict.fromkeys([*single["cold"]["stages_p50_us"], *single["warm"]["stages_p50_us"]]))
    lines = ["| up to | cold p50 | cold p99 | warm p50 | warm p99 |", "| --- | --- | --- | --- | --- |"]
    for stage in names:
        cells = [single[mode][field].get(stage) for mode in ("cold", "warm") for field in ("stages_p50_us", "stages_p99_us")]
        lines.append("| %s | %s |" % (stage, " | ".join("" if cell is None else "%.1f us" % cell for cell in cells)))
    return lines


def growth_tables(results):
    lines = []
    if "clients" in results:
        lines += ["", "| clients | warm, a second | p50 | p99 |", "| --- | --- | --- | --- |"]
        lines += ["| %d | %.0f | %.0f us | %.0f us |" % (one["clients"], one["per_second"], one["p50_us"], one["p99_us"])
                  for one in results["clients"]]
    if "payloads" in results:
        lines += ["", "| payload | warm p50 | p99 | MiB a second at p50 |", "| --- | --- | --- | --- |"]
        lines += ["| %d B | %.0f us | %.0f us | %.1f |" % (
            one["payload_bytes"], one["p50_us"], one["p99_us"],
            one["payload_bytes"] / one["p50_us"] * 1e6 / (1 << 20)) for one in results["payloads"]]
    return lines


def draw_all(results, folder):
    """Draws what was measured; answers the lines that show it."""
    folder.mkdir(exist_ok=True)
    shown = []

    def show(title, name, draw, *arguments):
        draw(title, *arguments, folder / name)
        shown.append("![%s](%s/%s)" % (title, folder.name, name))

    single = results.get("single")
    if single:
        show("How long an invocation takes", "latency.svg", plots.distribution,
             [("warm", single["warm"]["samples_us"]["invocations"]),
              ("cold", single["cold"]["samples_us"]["invocations"]),
              ("fork, import, call", single["cold"]["samples_us"]["fork_import"]),
              *((name, peer["samples_us"]) for name, peer in sorted(single["peers"].items()) if peer["samples_us"])])
        show("Where the time goes, p50 of each stage", "stages.svg", plots.stages,
             [(mode, single[mode]["stages_p50_us"]) for mode in ("cold", "warm")])
    if "clients" in results:
        show("Warm invocations by many clients", "clients.svg", plots.growth, "clients", "a second",
             [("warm", [(one["clients"], one["per_second"]) for one in results["clients"]])])
    if "payloads" in results:
        show("A warm invocation by its payload, p50", "payloads.svg", plots.growth, "bytes", "microseconds",
             [("warm", [(one["payload_bytes"], one["p50_us"]) for one in results["payloads"]])])
    return shown


def machine_line(results):
    machine = results["machine"]
    not_enforced = ", ".join(machine["limits_not_enforced"])
    return "%s. %d CPUs (%s), Linux %s, load %.2f at the start. Limits: %s%s." % (
        results["date"], machine["cpus"], machine["cpu_model"], machine["kernel"], machine["load_1m"], machine["limits"],
        " (not enforced here: %s)" % not_enforced if not_enforced else "")


def figures(results, rows, shown):
    lines = [BEGIN, "", machine_line(results),
             "In force in the measured sandboxes, as one of them saw it: %s." % ", ".join(results["in_force"]), ""]
    lines += goals_table(rows)
    if "single" in results:
        lines += ["", *latency_table(results), "", *stage_table(results)]
    if "languages" in results:
        lines += ["", *languages.table(results["languages"])]
    lines += growth_tables(results)
    for one in shown:
        lines += ["", one]
    return "\n".join([*lines, "", END])


def replace(page, text):
    """`page` with the figures between its marks replaced. Pure."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has not both marks, '%s' and '%s'" % (BEGIN, END))
    return before + text + after

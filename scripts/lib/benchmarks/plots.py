"""Plots as SVG, drawn by gnuplot (Debian's gnuplot-nox)."""
import subprocess

from .agents import Trouble
from . import stats

HEAD = """set terminal svg size 760,420 dynamic background "white" font "sans-serif,13"
set output
set grid
set key top left
"""
POINTS = 200


def draw(script, path):
    done = subprocess.run(["gnuplot"], input=HEAD + script, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.startswith("<?xml"):
        raise Trouble("gnuplot: " + done.stderr.strip())
    path.write_text(done.stdout)


def block(name, rows):
    return "$%s << EOD\n%s\nEOD\n" % (name, "\n".join(" ".join(map(str, row)) for row in rows))


def distribution(title, arms, path):
    """`arms`: what it is called, and its samples in microseconds. A logarithmic axis, shares up to 99.9 %."""
    script = 'set title "%s"\nset logscale x\nset xlabel "microseconds"\nset ylabel "share of all, %%"\n' % title
    lines = []
    for number, (name, samples) in enumerate(arms):
        rows = [(stats.quantile(samples, i / POINTS * 0.999), i / POINTS * 99.9) for i in range(1, POINTS + 1)]
        script += block("d%d" % number, rows)
        lines.append('$d%d using 1:2 with lines linewidth 2 title "%s"' % (number, name))
    draw(script + "plot " + ", ".join(lines) + "\n", path)


def stages(title, columns, path):
    """`columns`: a name, and its stages with microseconds; as stacked bars."""
    names = list(dict.fromkeys(stage for _, values in columns for stage in values))
    rows = [['"%s"' % name, *(values.get(stage, 0) for stage in names)] for name, values in columns]
    script = ('set title "%s"\nset ylabel "microseconds"\nset style data histograms\nset style histogram rowstacked\n'
              "set style fill solid 0.8\nset boxwidth 0.5\nset key outside right\n" % title)
    script += block("d", rows)
    lines = ['$d using %d:xtic(1) title "%s"' % (number + 2, stage) for number, stage in enumerate(names)]
    draw(script + "plot " + ", ".join(lines) + "\n", path)


def growth(title, xlabel, ylabel, lines, path):
    """`lines`: a name, and (x, y) in order."""
    script = 'set title "%s"\nset logscale x\nset xlabel "%s"\nset ylabel "%s"\nset yrange [0:*]\n' % (
        title, xlabel, ylabel)
    drawn = []
    for number, (name, points) in enumerate(lines):
        script += block("d%d" % number, points)
        drawn.append('$d%d using 1:2 with linespoints linewidth 2 title "%s"' % (number, name))
    draw(script + "plot " + ", ".join(drawn) + "\n", path)

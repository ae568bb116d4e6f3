"""What is said of many times. Pure."""
import math
import random

RESAMPLES = 1000
CONFIDENCE = 0.95


def quantile(samples, share):
    """The smallest sample that is at least as large as `share` of all, so always one that was seen."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(samples):
    return quantile(samples, 0.5)


def interval(samples, share=0.5, seed=1):
    """A bootstrap interval of a quantile: its middle 95 % over resamples with replacement."""
    chance = random.Random(seed)
    seen = sorted(quantile(chance.choices(samples, k=len(samples)), share) for _ in range(RESAMPLES))
    outside = (1 - CONFIDENCE) / 2
    return quantile(seen, outside), quantile(seen, 1 - outside)


def ratio_interval(above, below, share=0.5, seed=1):
    """The same of the ratio of two quantiles of samples that were taken in one run."""
    chance = random.Random(seed)
    seen = sorted(quantile(chance.choices(above, k=len(above)), share)
                  / quantile(chance.choices(below, k=len(below)), share) for _ in range(RESAMPLES))
    outside = (1 - CONFIDENCE) / 2
    return quantile(seen, outside), quantile(seen, 1 - outside)

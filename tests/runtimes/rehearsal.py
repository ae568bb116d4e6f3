"""A rehearsal leaves nothing behind: rehearsal.py SUPPORT_DIRECTORY. Exit status 0, or what differs."""
import linecache
import os
import random
import re
import sys

support = sys.argv[1]
sys.path.insert(0, support)
import zygote

sys.path.pop(0)
_, sandbox = zygote.load_brood(support)
zygote.preload([])
zygote.clean_state(sandbox)


def state():
    return {
        "modules": sorted(sys.modules),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "importers": sorted(sys.path_importer_cache),
        "lines": sorted(linecache.cache),
        "patterns": len(re._cache),
        "random": random.getstate(),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "outputs": [os.readlink("/proc/self/fd/%d" % fd) for fd in (1, 2)],
        "streams": (id(sys.stdout), id(sys.stderr)),
    }


sandbox.rehearse()
before = state()
status = sandbox.rehearse()
after = state()
problems = ["%s: %r, then %r" % (key, before[key], after[key])
            for key in before if before[key] != after[key]]
if status != 0:
    problems.append("serve: %r" % status)
sys.exit("\n".join(problems) or 0)

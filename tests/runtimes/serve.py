"""sandbox.py in an ordinary process: serve.py SUPPORT_DIRECTORY CODE_DIRECTORY, socket on fd 3."""
import os
import sys

support, code = sys.argv[1:]
sys.path.insert(0, support)
import zygote

sys.path.pop(0)
del sys.modules["zygote"]  # a zygote runs it as __main__
_, sandbox = zygote.load_brood(support)
sandbox._CODE_PATHS = tuple(path.replace(sandbox.CODE_DIR, code, 1) for path in sandbox._CODE_PATHS)
sandbox.CODE_DIR = code
zygote.clean_state(sandbox)
os._exit(sandbox.main(3, False))

"""A requirements file without the packages that only CUDA builds of torch need: stdin to stdout."""

import re
import sys

keep = True
for line in sys.stdin:
    if re.match(r"[a-z]", line):  # a package; its hashes follow, indented
        keep = not re.match(r"(nvidia|cuda|triton)", line)
    if keep:
        sys.stdout.write(line)

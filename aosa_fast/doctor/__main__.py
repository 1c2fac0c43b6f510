"""`python -m aosa_fast.doctor`: what `aosa-fast doctor --json` writes, also where the command line cannot start."""

import json
import sys

from aosa_fast.doctor import examine, report

sys.stdout.write(json.dumps(report(examine()), indent=2) + "\n")

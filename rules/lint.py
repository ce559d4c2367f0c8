"""Run `snakemake --lint` and fail on everything that it finds, except for one lint that this project does not follow.

    python rules/lint.py

The exception is "Mixed rules and functions in same snakefile": here each input function stands just above the rule that
uses it, so that a stage is read in one file from top to bottom.
"""

import re
import subprocess
import sys

NOT_FOLLOWED = "Mixed rules and functions in same snakefile."


def main() -> int:
    """Print what the linter finds and return the exit status."""
    done = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], capture_output=True, text=True, check=False)
    titles = re.findall(r"^    \* (.*):$", done.stdout + done.stderr, re.MULTILINE)
    if done.returncode == 0 or (titles and set(titles) == {NOT_FOLLOWED}):
        return 0
    print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

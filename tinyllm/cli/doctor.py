"""`tinyllm doctor`: what this installation has, what it lacks, and how to get it.

A slow or failing program is often a matter of the machine: no OpenMP, a compile cache that cannot be written, half the
cores. This prints what matters for tinyllm, one line each. Exit code 0 if tinyllm can be used, 1 if not.
"""

import argparse
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import lesson

EPILOG = """example:
  tinyllm doctor      send its output along when you report a problem
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    subparsers.add_parser("doctor", help="what this machine has, and what is missing", description=lesson(__doc__), epilog=EPILOG)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; 0 if tinyllm can be used here."""
    from tinyllm import __version__
    from tinyllm.recipes.compile_ahead import is_compiled
    from tinyllm.report.machine import compute, machine, packages

    print(f"tinyllm {__version__}, {Path(__file__).parents[1]}")
    findings = []
    for title, section in (("Packages", packages()), ("Machine", machine()), ("Kernels", compute(all_compiled=is_compiled))):
        print(f"\n{title}")
        for finding in section:
            findings.append(finding)
            print(f"  {finding.topic:<17} {finding.value}")
    advice = [finding for finding in findings if finding.advice]
    if advice:
        print("\nAdvice")
        for finding in advice:
            print(f"  {finding.topic:<17} {finding.advice}")
    usable = not any(finding.fatal for finding in findings)
    print("\n" + ("tinyllm can be used." if usable else "tinyllm cannot be used before this is repaired."))
    return 0 if usable else 1

"""What `labelfix.find_label_issues` costs on two arrays, beside cleanlab's function of that name.

    python benchmarks/find_label_issues.py [--samples 50000] [--classes 10] [--rounds 3] [--seed 0]

Both are called in this process, in turn, on the same arrays, as `benchmarks/scoring.py` makes them;
each with its defaults, and cleanlab's with one process as well. Prints the fastest of the rounds;
the bar is 1.5 times cleanlab's defaults. Other jobs on the machine make times longer.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial

import numpy as np
from cleanlab.filter import find_label_issues as cleanlabs
from numpy.typing import NDArray

import labelfix
from harness import bar, new_parser, seconds_of, time_in_turn
from scoring import make

LONGER = 1.5
"""The bar: our time over that of cleanlab with its defaults."""


def main() -> None:
    arguments = parse()
    probs, given, true = make(arguments.samples, arguments.classes, arguments.seed)
    ways: dict[str, Callable[[], NDArray[np.bool_]]] = {
        "labelfix": lambda: labelfix.find_label_issues(given, probs).is_label_issue,
        "cleanlab": lambda: np.asarray(cleanlabs(given, probs)),
        "cleanlab, n_jobs=1": lambda: np.asarray(cleanlabs(given, probs, n_jobs=1)),
    }
    print(f"{len(probs):,} samples, {probs.shape[1]} classes, {np.mean(given != true):.1%} wrong")
    print(f"{os.cpu_count()} cores, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}")
    walls = time_in_turn(
        {name: partial(seconds_of, way) for name, way in ways.items()}, arguments.rounds
    )
    fastest = {name: min(times) for name, times in walls.items()}
    for name, way in ways.items():
        is_flagged = way()
        found, right = np.mean(is_flagged[given != true]), np.mean((given != true)[is_flagged])
        print(
            f"{name:20} {fastest[name] * 1e3:6.1f} ms, flags {found:.1%} of the wrong labels, "
            f"{right:.1%} of its flags are wrong labels"
        )
    ratio = fastest["labelfix"] / fastest["cleanlab"]
    print(f"labelfix / cleanlab {ratio:.2f} {bar(ratio <= LONGER, str(LONGER))}")
    print(
        f"labelfix / cleanlab, n_jobs=1 {fastest['labelfix'] / fastest['cleanlab, n_jobs=1']:.2f}"
    )


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

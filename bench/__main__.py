"""`python -m bench inproc|http|ws|startup`: run one bench, print its tables, and write its JSON if asked."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import http, inproc, startup, ws
from bench.harness import Plan, Report, as_json, as_text

BENCHES: Mapping[str, tuple[Callable[[Plan], Report], int, float]] = {
    "inproc": (inproc.run, 30, 20.0),
    "http": (http.run, 10, 40.0),
    "ws": (ws.run, 5, 25.0),
    "startup": (startup.run, 7, 40.0),
}
"""Each bench, with its default rounds and about how many seconds it takes."""


def main() -> None:
    """Run the bench that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="bench", required=True)
    for name, (_, rounds, seconds) in BENCHES.items():
        command = commands.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        command.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds, at least 1")
        command.add_argument("--seconds", type=float, default=seconds, help="time to spend measuring, in all")
        command.add_argument(
            "--peers", action=argparse.BooleanOptionalAction, default=True, help="beside the peers too"
        )
        command.add_argument("--json", type=Path, default=None, metavar="FILE", help="write every number here too")
    given = parser.parse_args()
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("--rounds is at least 1, --seconds more than 0")
    report = BENCHES[given.bench][0](Plan(given.rounds, given.seconds, given.peers))
    print(as_text(report))
    if given.json is not None:
        given.json.write_text(as_json(report) + "\n")


if __name__ == "__main__":
    main()

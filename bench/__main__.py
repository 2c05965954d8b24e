"""`python -m bench NAME`: run one bench, print its tables, and write its JSON if asked."""

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from bench.harness import Plan, Report, as_json, as_text


class Bench(NamedTuple):
    """One bench: what it asks, its default rounds and seconds, and what it counts (a word, and how many)."""

    about: str
    rounds: int
    seconds: float
    counts: tuple[str, int] | None = None

    def load(self, name: str) -> Callable[[Plan], Report]:
        """Import the bench; its peers come with it, which only some have."""
        run: Callable[[Plan], Report] = import_module(f"bench.{name}").run
        return run


BENCHES: Mapping[str, Bench] = {
    "inproc": Bench("what a request costs inside the application alone", 30, 25.0),
    "http": Bench("what a request costs over a real hypercorn", 10, 40.0),
    "ws": Bench("what a WebSocket costs", 5, 25.0),
    "sse": Bench("what an event of a streamed run costs", 3, 200.0, ("runs", 200)),
    "startup": Bench("what it costs to begin", 7, 40.0),
    "idle": Bench(
        "what many idle WebSockets cost, seconds each time they are watched", 1, 45.0, ("connections", 10_000)
    ),
    "keys": Bench("whether refusals take the same time whatever is wrong with a key", 1, 30.0, ("samples", 20_000)),
    "lag": Bench("how late the event loop is under load and abuse", 3, 60.0),
    "abuse": Bench("what one abusive WebSocket costs", 1, 240.0),
    "slow": Bench("what becomes of those who send slowly", 1, 70.0, ("connections", 1_000)),
    "stalled": Bench("what becomes of those who do not read", 1, 60.0, ("readers", 200)),
    "dead": Bench("when clients are noticed whose network is gone; needs root", 1, 70.0, ("clients", 20)),
    "soak": Bench("what is left after many requests and sockets", 1, 300.0, ("requests", 100_000)),
    "fuzz": Bench("what random requests bring about", 1, 3600.0, ("requests", 1_000_000)),
}


def main() -> None:
    """Run the bench that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="bench", required=True)
    for name, bench in BENCHES.items():
        _options(
            commands.add_parser(name, help=bench.about, formatter_class=argparse.ArgumentDefaultsHelpFormatter), bench
        )
    given = parser.parse_args()
    if given.rounds < 1 or given.seconds <= 0 or given.count < 0:
        parser.error("--rounds is at least 1, --seconds more than 0, and no number is below 0")
    report = BENCHES[given.bench].load(given.bench)(Plan(given.rounds, given.seconds, given.peers, given.count))
    print(as_text(report))
    if given.json is not None:
        given.json.write_text(as_json(report) + "\n")


def _options(command: argparse.ArgumentParser, bench: Bench) -> None:
    command.add_argument("--rounds", type=int, default=bench.rounds, help="interleaved rounds, at least 1")
    command.add_argument("--seconds", type=float, default=bench.seconds, help="time to spend measuring, in all")
    command.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="beside the peers too")
    command.add_argument("--json", type=Path, default=None, metavar="FILE", help="write every number here too")
    command.set_defaults(count=0)
    if bench.counts is not None:
        word, count = bench.counts
        command.add_argument(f"--{word}", dest="count", type=int, default=count, metavar="N", help=f"{word}, in all")


if __name__ == "__main__":
    main()

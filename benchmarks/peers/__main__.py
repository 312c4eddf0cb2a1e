"""python -m benchmarks.peers: runs workloads over the installed peers and prints tables.

    python -m benchmarks.peers W1 W3 --threads 1,2 --rounds 5 --json run.json --plot run.png
    python -m benchmarks.peers --report run.json --markdown run.md      # no run: tables of earlier ones
    python -m benchmarks.peers --list                                   # which peers are there
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path

from . import plot, report, runner
from .runner import Record, Settings
from .workloads import HIGHER_IS_BETTER, WORKLOADS


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    names = "; ".join(f"{name} {text}" for name, text in WORKLOADS.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__,
                                     epilog=f"Workloads: {names}.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="some of those below; default: all")
    parser.add_argument("--peers", type=_words, help="names with commas; default: all that are installed")
    parser.add_argument("--variants", type=_words, default=["*"], help="patterns with commas: 'eager*,fit'")
    parser.add_argument("--threads", type=_numbers, default=tuple(sorted({1, os.cpu_count() or 1})),
                        help="numbers with commas; default: 1 and all")
    parser.add_argument("--isa", choices=sorted(runner.INSTRUCTION_SETS), help="hold all to it that can be")
    parser.add_argument("--batches", type=_numbers, help="of W1 and W2, instead of their own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="timed for each metric in each round")
    parser.add_argument("--timeout", type=float, default=300, help="seconds until a process is given up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results, for --report")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--bars", action="store_true", help="print a chart in characters, of the most threads")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a chart (PNG), of the most threads")
    parser.add_argument("--details", action="store_true", help="a table of all variants for each metric, too")
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE", help="run nothing, show these")
    parser.add_argument("--list", action="store_true", help="show which peers are installed, and end")
    arguments = parser.parse_args(argv)
    for name in arguments.workloads:
        if name not in WORKLOADS:
            parser.error(f"unknown workload {name}; expected some of {', '.join(WORKLOADS)}")
    for name in arguments.peers or ():
        if name not in runner.peers():
            parser.error(f"unknown peer {name}; expected some of {', '.join(runner.peers())}")
    return arguments


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _numbers(text: str) -> tuple[int, ...]:
    values = tuple(sorted({int(word) for word in _words(text)}))
    if not values or values[0] < 1:
        raise argparse.ArgumentTypeError(f"expected positive integers with commas. Received: {text}")
    return values


def about_run(arguments: argparse.Namespace, argv: list[str]) -> dict[str, str]:
    """What the results belong to."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    machine = f"{processor}, {os.cpu_count()} processors, {platform.system()} {platform.release()}"
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine,
            "instruction set": arguments.isa or "each engine's best",
            "command": shlex.join(["python", "-m", "benchmarks.peers", *argv])}


def run(arguments: argparse.Namespace) -> list[Record]:
    chosen = arguments.peers or runner.peers()
    for peer in chosen:
        if runner.interpreter(peer) is None:
            print(f"{peer} is not installed: left out", file=sys.stderr)
    settings = Settings(arguments.rounds, arguments.seconds, arguments.timeout, arguments.isa,
                        arguments.batches)
    records = []
    for workload in arguments.workloads or WORKLOADS:
        cases = runner.cases(workload, chosen, arguments.variants, arguments.threads[:1] if workload == "W5"
                             else arguments.threads, arguments.isa)
        for record in runner.run(workload, cases, settings) if cases else ():
            records.append(record)
            print(progress(record), file=sys.stderr, flush=True)
    return records


def progress(record: Record) -> str:
    case = record.case
    found = record.error or ", ".join(f"{name} {report.number(value, unit)} {unit}"
                                      for name, (value, unit) in list(record.metrics.items())[:4])
    threads = f"{case.threads} thread{'s' if case.threads > 1 else ''}"
    who = f"{case.workload} {case.peer} {case.variant}, {threads}"
    return f"round {record.round + 1} {who}: {found}"


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    arguments = arguments_of(argv)
    if arguments.list:
        for peer in runner.peers():
            print(f"{peer:12} {runner.interpreter(peer) or 'not installed'}")
        return 0
    if arguments.report:
        stored = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.report]
        records = [Record.from_json(data) for run_data in stored for data in run_data["records"]]
        records = [record for record in records if record.case.workload in (arguments.workloads or WORKLOADS)]
        about = stored[-1]["about"]
    else:
        about, records = about_run(arguments, argv), run(arguments)
    if not records:
        print("Nothing to show: no case of these workloads runs here.", file=sys.stderr)
        return 1
    text = report.markdown(records, about, arguments.details)
    print(text)
    if arguments.json:
        data = {"about": about, "records": [record.to_json() for record in records]}
        arguments.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")
    if arguments.plot or arguments.bars:
        metrics = [metric for metric in report.collect(records) if metric.unit in HIGHER_IS_BETTER]
        threads = max(count for metric in metrics for count in metric.values)
        if arguments.bars:
            print(plot.text(metrics, threads))
        if arguments.plot:
            plot.draw(metrics, threads, arguments.plot, f"{about['machine']}, {about['date']}")
    return 1 if any(record.error for record in records) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line: tinyconv train, evaluate, predict, convert, dataset, bench, info."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import tinyconv
from tinyconv import cli_convert, cli_dataset, cli_predict, cli_train
from tinyconv.cli_arguments import parse_positive
from tinyconv.cli_convert import convert
from tinyconv.cli_predict import evaluate, predict
from tinyconv.cli_train import train

__all__ = ["main"]


def bench(arguments: argparse.Namespace) -> None:
    from tinyconv.bench import report

    report(arguments.seconds, arguments.json)


def info(arguments: argparse.Namespace) -> None:
    tinyconv.show_config()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyconv",
                                     description="Trains and runs small convolutional networks.")
    parser.add_argument("--version", action="version", version=f"tinyconv {tinyconv.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=text, description=text)
        sub.set_defaults(function=function)
        if function not in (bench, info):
            sub.add_argument("--threads", type=parse_positive, metavar="N", help="number of threads")
        return sub

    cli_train.add_options(command(train, "Train a network on labelled images and save it."))
    cli_predict.add_evaluate_options(command(evaluate, "Measure a model on the held-out images."))
    cli_predict.add_predict_options(command(predict, "Name the most probable classes of image files."))
    cli_convert.add_options(command(convert, "Write a model in another format."))

    text = "Say what a data set holds, or write it in another format."
    group = commands.add_parser("dataset", help=text, description=text)
    cli_dataset.add_commands(group.add_subparsers(title="commands", metavar="COMMAND", required=True))

    sub = command(bench, "Measure this machine's speed: every instruction set, one thread and all, and NumPy.")
    sub.add_argument("--seconds", type=float, default=30, help="how long, about (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")

    command(info, "Show versions, instruction sets, threads, and why a fallback is in use.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for an error (one line on stderr), 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "threads", None):
            tinyconv.set_num_threads(arguments.threads)
        arguments.function(arguments)
        if sys.stdout is not None:  # it is where the caller closed it
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing fails again at the end
        return 0
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"tinyconv: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tinyconv: stopped", file=sys.stderr)
        return 130
    return 0

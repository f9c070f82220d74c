"""The command line: flags -> gin -> one command.

TensorFlow is imported only by the commands that need it, so `--help` and `list` answer at once.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence

from ige import configs, parameters
from ige.errors import UserError, first_line, nearest

COMMANDS = {
    "train": "train a model; run again to continue from its last checkpoint",
    "evaluate": "print the table of errors of a trained model and write evaluation.json",
    "vis": "draw what a trained model predicts: pictures, a moving one, a page to turn it in",
    "infer": "fit the sequences of a split with a trained prior, by optimisation",
    "predict": "make 3D motion of your own 2D keypoints, or a shape of your image (--input)",
    "compare": "print a table of the evaluations of several runs (compare.runs), and draw it",
    "prepare": "build the data set only",
    "list": "list every config with its purpose",
    "print_config": "print the complete resolved config",
}
_RESUMING = ("train", "prepare", "infer")
_WITH_OUTPUT = ("vis", "predict", "compare")


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:14}{purpose}" for name, purpose in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m ige",
        description="Train and evaluate the experiments that the gin files describe.",
        epilog=f"commands:\n{commands}\n\n"
        "example:\n  python -m ige --gin_file=hpe/b128-1 --command=train --epochs=5 "
        "--gin_param=\"data='synthetic'\"",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--command", default="train", help="what to do (default: train)")
    parser.add_argument(
        "--gin_file", action="append", default=[], help="config, with or without .gin; repeatable"
    )
    parser.add_argument(
        "--gin_param", action="append", default=[], help="binding such as epochs=5; repeatable"
    )
    parser.add_argument(
        "--config_dir",
        help="folder of gin files (default: $IGE_CONFIG_DIR, else the packaged configs)",
    )
    parser.add_argument("--epochs", help="short for --gin_param=epochs=N")
    parser.add_argument("--input", help="file or folder that predict reads")
    parser.add_argument("--output", help=f"folder that {', '.join(_WITH_OUTPUT)} write to")
    return parser


def _import_tensorflow() -> None:
    """Imports TensorFlow and finds the devices without what its C++ parts print meanwhile.

    They say what they were compiled with and that there is no GPU, at every start, and no log level
    stops them. If the import fails, what they said is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said, contextlib.ExitStack() as stack:
        stderr = os.dup(2)
        stack.callback(os.close, stderr)
        stack.callback(os.dup2, stderr, 2)
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except ImportError:
            said.seek(0)
            os.write(stderr, said.read())
            raise


def _run(arguments: argparse.Namespace) -> None:
    command = arguments.command
    if command not in COMMANDS:
        raise UserError(
            f"--command: got {command!r}; {nearest(command, COMMANDS)}; "
            f"commands: {', '.join(COMMANDS)}"
        )
    if command == "list":
        listed = configs.list_configs(configs.config_folder(arguments.config_dir))
        width = max(map(len, listed), default=0)
        print("\n".join(f"{name:{width}}  {purpose}" for name, purpose in listed.items()))
        return
    bindings = list(arguments.gin_param)
    if arguments.epochs is not None:
        if not arguments.epochs.isdecimal():
            raise UserError(
                f"--epochs: got {arguments.epochs!r}, expected a whole number such as --epochs=5"
            )
        bindings.append(f"epochs = {int(arguments.epochs)}")
    _check_files(arguments)
    needed = command != "compare"
    configs.locate(arguments.gin_file, arguments.config_dir, needed)
    if arguments.gin_file:
        _import_tensorflow()
    from ige import compare

    name = configs.parse(arguments.gin_file, bindings, arguments.config_dir, needed)
    if command == "compare":
        compare.compare(arguments.output)
        return
    from ige import distribution, runners

    # Workers have to meet before TensorFlow computes anything; gin then makes everything in scope.
    with distribution.spread() if command == "train" else contextlib.nullcontext():
        parameters.try_keras_objects()
        if command == "print_config":
            print(parameters.to_text(parameters.resolved()))
        elif command == "predict":
            runners.predict(name, arguments.input, arguments.output)
        elif command == "vis":
            runners.vis(name, arguments.output)
        else:
            getattr(runners, command)(config_name=name)


def _check_files(arguments: argparse.Namespace) -> None:
    """Refuses --input and --output where nothing would read or write there."""
    command = arguments.command
    for flag, given, takers in (
        ("--input", arguments.input, ("predict",)),
        ("--output", arguments.output, _WITH_OUTPUT),
    ):
        if given is not None and command not in takers:
            raise UserError(
                f"{flag}: got {given!r} with --command={command}, which has no use for it; leave "
                f"it out (it is for {', '.join(takers)})"
            )


def _file_errors() -> tuple[type[Exception], ...]:
    """Returns what is raised where a file or folder fails; TensorFlow, once loaded, has its own."""
    tensorflow = sys.modules.get("tensorflow")
    return (OSError, tensorflow.errors.PermissionDeniedError) if tensorflow else (OSError,)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0; 2 after a mistake of the user or when a file or folder fails; 130 after Ctrl-C; 141 when
        nobody reads on what is printed. The last two as a shell says that a signal ended a program.
    """
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
        sys.stdout.flush()
    except UserError as error:
        # gin appends the configurables that were being called when an error passes them.
        message = str(error).partition("\n  In call to configurable")[0]
        print(f"ige: {message}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `head` has seen enough. At its end Python writes out what is left, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _file_errors() as error:
        # "[Errno 28] No space left on device", "{{function_node ...}} events.v2; Read-only ..."
        reason = re.sub(r"^(\[Errno \d+\]|\{\{.*\}\}) ", "", first_line(error))
        print(f"ige: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        resumes = arguments.command in _RESUMING
        what = "goes on from what is saved" if resumes else "begins anew"
        # A command that knows more says it.
        print(
            f"ige: interrupted; {error if error.args else f'the same command {what}'}",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

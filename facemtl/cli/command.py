"""The whole command: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from facemtl.cli.messages import say
from facemtl.data.align_report import AlignmentInterrupted
from facemtl.data.manifest_problems import ManifestError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 error or nothing to show for it, 130 interrupted."""
    try:
        import tyro
    except ImportError:
        say('facemtl needs tyro: pip install "facemtl[cli]"')
        return 1
    from facemtl.cli.align import AlignCommand
    from facemtl.cli.data import DataCommand

    commands: dict[str, Any] = {
        "align": Annotated[AlignCommand, tyro.conf.PositionalRequiredArgs],
        "data": Annotated[DataCommand, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes],
    }
    command: Command | DataCommand = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="facemtl",
        description="PyTorch blocks for multi-task face models, from the terminal.",
        args=arguments,
    )
    return _guarded(command.command if isinstance(command, DataCommand) else command)


@runtime_checkable
class Command(Protocol):
    """What each subcommand is."""

    continues: ClassVar[bool]
    """Whether the same command, after an interruption, goes on where it stopped."""

    debug: bool

    def run(self) -> int:
        """Do it, print what came of it, and return the exit code."""
        ...


def _guarded(command: Command) -> int:
    """Turn errors into one readable line, and a request to stop into an orderly end."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    again = " The same command continues." if command.continues else ""
    try:
        return command.run()
    except AlignmentInterrupted as error:
        say(f"Interrupted: {error.done} of {error.total} photographs are done.{again}")
        return 130
    except KeyboardInterrupt:
        say(f"Interrupted.{again}")
        return 130
    except Exception as error:
        if command.debug or "FACEMTL_DEBUG" in os.environ:
            traceback.print_exc()
        else:
            for line in _lines(error, command):
                say(line)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _lines(error: Exception, command: Command) -> Iterator[str]:
    """One line; and one for each fault of a manifest, however many, as the terminal cannot ask the error for more."""
    if not isinstance(error, ManifestError) or not error.problems:
        yield f"facemtl: {_with_options(_one_line(error, continues=command.continues), command)}"
        return
    yield f"facemtl: {_with_options(str(error).splitlines()[0], command)}"
    for problem in error.problems:
        yield f"  {error.unit} {problem.line}: {problem}"


def _with_options(text: str, command: Command) -> str:
    """Messages advise a program, ``on_problem="drop"``; the terminal has options, ``--on-problem drop``."""

    def option(match: re.Match[str]) -> str:
        if match[1] not in names:
            return match[0]
        value = "" if match[2] == "True" else f" {match[2].strip(chr(34))}"
        return f"--{match[1].replace('_', '-')}{value}"

    names = {field.name for field in dataclasses.fields(command)}  # type: ignore[arg-type]
    return re.sub(r'\b([a-z_]+)=(True\b|"[a-z_]+")', option, text)


def _one_line(error: Exception, *, continues: bool) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename!r}" if error.filename else ""
        return f"{error.strerror}{place}.{' What was done is kept; the same command continues.' if continues else ''}"
    if isinstance(error, (ValueError, TypeError, ImportError, OSError)):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)"

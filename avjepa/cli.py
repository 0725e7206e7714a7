"""What every tool does around its ``main``: a user's mistake is one line on stderr, without a traceback; and progress."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.progress import track

from avjepa.errors import UserError

# What goes wrong with a folder that the user named: no permission, read-only, full, or a file where a folder should be.
PLACES_OF_THE_USER = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool and leave the process: 0 done, 2 a mistake that the user can mend, 130 interrupted, 141 nobody reads on."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        main()
    except UserError as error:
        sys.exit(_complain(f"error: {error}", 2))
    except BrokenPipeError:  # as in `tool | head`; without this, Python complains again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in PLACES_OF_THE_USER or not error.filename:
            raise
        sys.exit(_complain(f"error: {error.filename}: {error.strerror}; choose another place, or make room", 2))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted", 130))


def progress(items: Iterable, what: str, total: int) -> Iterable:
    """The items, with a bar on stderr that goes when they are done; where that is no terminal, a line that says what begins."""
    console = Console(stderr=True)
    if console.is_terminal:
        return track(items, description=what, total=total, transient=True, console=console)
    console.print(f"{what} ({total})", highlight=False, soft_wrap=True)
    return items


def _complain(message: str, code: int) -> int:
    # A loader process sends its error with the traceback in front; the last line is what the user can mend.
    if "Original Traceback" in message:
        message = "error: " + message.strip().splitlines()[-1].partition(": ")[2]
    print(" ".join(message.split()), file=sys.stderr)
    return code

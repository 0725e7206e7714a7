import subprocess
import sys
from pathlib import Path

import pytest

from avjepa.cli import run_tool
from avjepa.errors import DataError


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


def test_a_mistake_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as left:
        run_tool(raising(DataError("a.json:\n  broken")))
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: a.json: broken\n"


def test_ctrl_c_is_130(capsys):
    with pytest.raises(SystemExit) as left:
        run_tool(raising(KeyboardInterrupt()))
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(raising(ZeroDivisionError()))


def test_done_is_no_exit():
    assert run_tool(lambda: None) is None


def test_a_reader_that_leaves_is_no_error():
    """As in ``tool | head``: no traceback, and none when Python flushes at exit."""
    script = "from avjepa.cli import run_tool\nrun_tool(lambda: [print('x' * 1000, flush=True) for _ in range(1000)])"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()
    assert complaint == b""
    assert process.returncode == 141

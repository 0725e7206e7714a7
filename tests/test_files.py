"""Files and folders that are whole or not there, with several processes after one name."""

import subprocess
import sys
from pathlib import Path

import pytest

from avjepa.errors import ConfigError
from avjepa.files import replacing_folder

ROOT = Path(__file__).resolve().parents[1]
# Writes half, says so, and waits to be told how to go on.
OTHER = """
import sys; from pathlib import Path; from avjepa.files import replacing_folder
with replacing_folder(Path(sys.argv[1])) as partial:
    (partial / "half.txt").write_text("half")
    print("begun", flush=True)
    input()
    (partial / "whole.txt").write_text((partial / "half.txt").read_text() * 2)
"""


@pytest.fixture
def other(tmp_path):
    command = [sys.executable, "-c", OTHER, str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_leaves_the_first_ones_work_alone(other, tmp_path):
    with pytest.raises(ConfigError, match="out: another run is writing there"), replacing_folder(tmp_path / "out"):
        pass
    other.communicate("go on\n", timeout=60)
    assert other.returncode == 0
    assert (tmp_path / "out" / "whole.txt").read_text() == "halfhalf"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_is_removed(other, tmp_path):
    other.kill()
    other.wait()
    with replacing_folder(tmp_path / "out") as partial:
        assert list(partial.iterdir()) == []
        (partial / "new.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new.txt"]


def test_an_interrupted_block_leaves_nothing(tmp_path):
    def write():
        with replacing_folder(tmp_path / "a" / "out") as partial:
            (partial / "half.txt").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list((tmp_path / "a").iterdir()) == []

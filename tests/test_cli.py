import logging

import pytest
from torch.utils.data import DataLoader, Dataset

from avjepa.cli import progress, run_tool
from avjepa.errors import DataError
from avjepa.files import write_json


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise DataError("drive: 3 of 10 keyframes have bad files")


def read_in_a_worker():
    list(DataLoader(Broken(), num_workers=1))


def here():
    raise DataError("drive: 3 of 10\n keyframes have bad files")


@pytest.mark.parametrize("main", [here, read_in_a_worker])
def test_a_mistake_is_one_line_wherever_it_is_found(main, capsys):
    with pytest.raises(SystemExit) as left:
        run_tool(main)
    assert left.value.code == 2
    assert capsys.readouterr().err.strip().splitlines() == ["error: drive: 3 of 10 keyframes have bad files"]


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)


def test_done_and_interrupted(capsys):
    run_tool(lambda: logging.getLogger("avjepa").info("fine"))

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        run_tool(stop)
    assert left.value.code == 130


def test_progress_without_a_terminal_is_one_line_on_stderr(capsys):
    assert list(progress(iter("abc"), "embedding near clips: JEPA", 3)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "embedding near clips: JEPA (3)\n"


def test_a_folder_that_cannot_be_written_is_the_users_matter(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: write_json(tmp_path / "file" / "record.json", {}))
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/file")
    with pytest.raises(FileNotFoundError):  # ours
        run_tool(lambda: (tmp_path / "nothing").read_text())

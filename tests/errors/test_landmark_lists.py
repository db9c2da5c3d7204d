from __future__ import annotations

from pathlib import Path

import pytest

from facemtl.data.landmark_lists import read_landmark_list

GOOD = "a.jpg 1 2 3 4 5 6 7 8 9 10"
HEADER = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
LST = "0\ta.jpg\t3\t1\t2\t3\t4\t" + "\t".join("1234567890")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'.*list.txt' lists no face"),
        ("2\n", "'.*list.txt' lists no face"),
        ("hello\n", "line 1: expected a line of CelebA's list .* got 'hello'"),
        (f"{GOOD}\nb.jpg 1 2 3 4 5 6 7 8 9\n", "line 2: expected a name and 10 numbers, got 'b.jpg 1 2 3 4 5 6 7 8 9'"),
        (f"{GOOD}\n\nb.jpg 1 2 3 4 5 6 7 8 9 x\n", "line 3: expected a name and 10 numbers"),
        (f"{GOOD} 0.5\nb.jpg 1 2 3 4 5 6 7 8 9 10\n", "line 2: expected a name, 10 numbers and a score"),
        (f"3\n{HEADER}\n{GOOD}\n", "line 1: the count must be the number of faces = 1, got 3. Is the list cut off"),
        (f"1\n{HEADER.replace('nose', 'chin')}\n{GOOD}\n", "line 2: the columns must be lefteye_x .* got .* chin_x"),
        (f"{LST}\n0\tb.jpg\t3\t1\t2\n", "line 2: expected 3, 7 or 17 fields between tabs, got 5"),
        (f"{LST}\n0\tb.jpg\t3\t1\t2\tx\t4\n", "line 2: expected numbers after the label"),
        (f"{GOOD}\n{GOOD}\n", "line 2: 'a.jpg' repeats line 1"),
        (f"../{GOOD}\n", "line 1: the name '../a.jpg' leaves the folder of photographs. Remove the '..'"),
        (f"b/..\\{GOOD}\n", r"line 1: the name 'b/..\\\\a.jpg' leaves the folder"),
        (f"{GOOD}\n/etc/passwd 1 2 3 4 5 6 7 8 9 10\n", "line 2: the name '/etc/passwd' is absolute"),
        (f"C:\\{GOOD}\n", "line 1: the name .* is absolute. Give names relative"),
        (f"a\0{GOOD}\n", r"line 1: the name 'a\\x00a.jpg' holds a NUL"),
        (LST.replace("a.jpg", "") + "\n", "line 1: the name '' is empty"),
        (LST.replace("a.jpg", "x/../../a.jpg") + "\n", r"line 1: the name 'x/../../a.jpg' leaves"),
    ],
)
def test_messages_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_landmark_list(tmp_path / "list.txt")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'.*none.txt' cannot be read: No such file"):
        read_landmark_list(tmp_path / "none.txt")

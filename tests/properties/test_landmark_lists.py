from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.landmark_lists import read_landmark_list

_numbers = st.integers(-400, 4000) | st.floats(-400, 4000, width=32)
_part = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)
_names = st.lists(
    _part.map(lambda part: f"{part.strip()}.jpg").filter(lambda name: not set(name) & set("\\/,") and name[1] != ":"),
    min_size=1,
    max_size=6,
    unique=True,
)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "list.txt"


@given(
    data=st.data(),
    names=_names,
    form=st.sampled_from(("celeba", "bare", "kaggle", "ijb", "lst")),
    end=st.sampled_from(("\n", "\r\n")),
    mark=st.booleans(),
)
def test_what_is_written_is_read(
    path: Path, data: st.DataObject, names: list[str], form: str, end: str, mark: bool
) -> None:
    values = [data.draw(st.lists(_numbers, min_size=10, max_size=10)) for _ in names]
    columns = [f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    lines = {"celeba": [f"{len(names)}", " ".join(columns)], "kaggle": [",".join(["image_id", *columns])]}.get(form, [])
    for name, numbers in zip(names, values, strict=True):
        text = [repr(number) for number in numbers]
        if form == "lst":
            lines.append("\t".join(["0", name, "7", "1", "2", "30", "40", *text[::2], *text[1::2]]))
        elif form == "ijb":
            lines.append(" ".join([name, *text, "0.5"]))
        else:
            lines.append(("," if form == "kaggle" else " ").join([name, *text]))
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + end.join([*lines, ""]).encode())
    faces = read_landmark_list(path)
    assert [face.name for face in faces] == names
    for face, numbers in zip(faces, values, strict=True):
        assert face.landmarks == tuple(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
        assert face.score == (0.5 if form == "ijb" else None)
        assert (face.box, face.label) == (((1.0, 2.0, 30.0, 40.0), "7") if form == "lst" else (None, None))


@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_list_or_a_value_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        faces = read_landmark_list(path)
    except ValueError:
        return
    assert all(face.landmarks is None or len(face.landmarks) == 5 for face in faces)


def test_several_faces_of_one_photograph_and_faces_without_landmarks(path: Path) -> None:
    path.write_text("0\ta.jpg\t3\t1\t2\t3\t4\n1\tb c.jpg\t4\n0\ta.jpg\t3\t" + "\t".join("5" * 14) + "\n")
    first, second, third = read_landmark_list(path)
    assert (first.name, first.box, first.landmarks) == ("a.jpg", (1.0, 2.0, 3.0, 4.0), None)
    assert (second.name, second.box, second.landmarks) == ("b c.jpg", None, None)
    assert (third.line, third.landmarks) == (3, ((5.0, 5.0),) * 5)


def test_numbers_that_are_not_finite_are_left_to_the_aligner(path: Path) -> None:
    path.write_text("a.jpg nan 2 3 4 5 6 7 8 9 inf\n")
    points = read_landmark_list(path)[0].landmarks
    assert points is not None
    assert math.isnan(points[0][0])
    assert math.isinf(points[4][1])

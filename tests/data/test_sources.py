from collections.abc import Callable
from pathlib import Path

import pytest

from image_classification_trash.data.layouts import read_tree
from image_classification_trash.data.sources import column_names, read_csv, read_source
from image_classification_trash.errors import DatasetError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_labels_are_folder_names_with_spaces_and_unicode(tmp_path: Path) -> None:
    source = read_tree(touch(tmp_path, "altes Papier/1.JPG", "pla\u0301stico/1.png", "紙/sub/1.webp"))
    labels = {file.path: file.label for file in source.files}
    assert sorted(labels.values()) == ["altes Papier", "pl\u00e1stico", "紙"]
    assert labels["紙/sub/1.webp"] == "紙"


def test_wrapping_folders_do_not_matter(tmp_path: Path) -> None:
    source = read_tree(touch(tmp_path, "x/dataset/a/1.jpg", "x/dataset/b/1.jpg"))
    assert source.root == tmp_path / "x" / "dataset"
    assert [(file.path, file.label) for file in source.files] == [("a/1.jpg", "a"), ("b/1.jpg", "b")]


def test_folders_named_after_parts_name_the_split(tmp_path: Path) -> None:
    source = read_tree(touch(tmp_path, "Train/a/1.jpg", "valid/a/2.jpg", "test/b/3.jpg"))
    assert [(f.split, f.label) for f in source.files] == [("train", "a"), ("test", "b"), ("val", "a")]


def test_hidden_and_underscored_folders_are_left_out_at_any_depth(tmp_path: Path) -> None:
    source = read_tree(
        touch(tmp_path, "a/1.jpg", "b/1.jpg", "_old/1.jpg", ".x/1.jpg", "a/_old/2.jpg", "a/.t/3.jpg")
    )
    assert [file.path for file in source.files] == ["a/1.jpg", "b/1.jpg"]


def test_other_files_and_broken_links_are_told_of(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/notes.txt", "b/1.jpg", "b/odd\nname.jpg")
    (tmp_path / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "b" / "folder.jpg").mkdir()
    source = read_tree(tmp_path)
    assert [file.path for file in source.files] == ["a/1.jpg", "b/1.jpg", "b/gone.jpg"]
    left_out = {row.path: row.kind for row in source.left_out}
    assert left_out == {"a/notes.txt": "not_a_photo", r"'b/odd\nname.jpg'": "not_a_photo"}


def test_a_label_that_labels_txt_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="control character") as caught:
        read_tree(touch(tmp_path, "a/1.jpg", "b\u2028c/1.jpg"))
    assert "Rename the class" in caught.value.hint


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: path.mkdir(), "No photos were found in"),
        (lambda path: touch(path, "a/readme.txt"), "No photos were found in"),
        (lambda path: touch(path, "1.jpg"), "such as 1.jpg: it lies in no class's folder"),
        (lambda path: touch(path, ".a/1.jpg"), "such as .a/: its name begins with .; 1 photo in it"),
        (lambda path: touch(path, "a\t/1.jpg"), "its name has a control character"),
        (lambda path: path.touch(), "is neither a folder nor a .zip or .csv file"),
        (lambda path: None, "does not exist"),
    ],
    ids=["empty", "no photo", "no class folder", "hidden", "tab", "a file", "missing"],
)
def test_a_source_without_photos_is_refused(
    tmp_path: Path, make: Callable[[Path], object], found: str
) -> None:
    path = tmp_path / "mine"
    make(path)
    with pytest.raises(DatasetError) as caught:
        read_source(path)
    assert found in caught.value.found
    assert str(path) in caught.value.found
    assert "folder" in caught.value.hint


def test_a_csv_names_files_labels_splits_and_groups(tmp_path: Path) -> None:
    text = 'filepath,label,split,group\nx/1.jpg,"papier, ""alt""",Train,g1\n x/2.jpg ,glass,dev,\n'
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = read_source(tmp_path / "t.csv")
    assert source.root == tmp_path
    assert [(f.path, f.label, f.split, f.group) for f in source.files] == [
        ("x/1.jpg", 'papier, "alt"', "train", "g1"),
        ("x/2.jpg", "glass", "val", ""),
    ]


@pytest.mark.parametrize(
    ("content", "found", "hint"),
    [
        (b"file,label\n1.jpg,a\n", "has the columns file, label", "filepath,label[,split,group]"),
        (b"filepath,label,colour\n", "has the columns filepath, label, colour", "filepath,label"),
        (b"", "has the columns (none)", "filepath,label"),
        (b"filepath,label\n1.jpg,a\n2.jpg,\n", "line 3: filepath or label is empty", "Fill in both"),
        (b"filepath,label\n1.jpg\n", "line 2: filepath or label is empty", "Fill in both"),
        (b"filepath,label,split\n1.jpg,a,dog\n", "line 2: split 'dog'", "train, val, test"),
        (b'filepath,label\n1.jpg,"a\nb"\n', "label 'a\\nb' has a control character", "Rename the class"),
        (b"filepath,label\n1.jpg,\xff\n", "is not a UTF-8 CSV file", "UTF-8"),
        (b"filepath,label\n", "No photos were found", "Write a line for each photo"),
        (
            b"filepath,label\na.jpg,bottle, clear\n",
            "line 2: more fields than columns (surplus: [' clear'])",
            "Quote fields",
        ),
        (
            b"filepath,label\na.jpg\0,a\n",
            "line 2: filepath 'a.jpg\\x00' has a control character",
            "Correct it",
        ),
        (b"filepath,label,label\na.jpg,a,b\n", "has two columns 'label'", "Rename one of them"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path: Path, content: bytes, found: str, hint: str) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_source(file)
    assert found in caught.value.found
    assert str(file) in caught.value.found
    assert hint in caught.value.hint


def test_a_table_with_other_column_names_is_read_with_a_mapping(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg")
    (tmp_path / "train.csv").write_text("id,image,category,height\n7,1.jpg,glass,640\n")
    columns = column_names(["filepath=image", "label=category"])
    source = read_source(tmp_path / "train.csv", columns=columns, photos=tmp_path / "train")
    assert [(file.path, file.label) for file in source.files] == [("1.jpg", "glass")]
    assert source.root == tmp_path / "train"
    assert any("image as filepath" in note for note in source.notes)


@pytest.mark.parametrize("pair", ["image", "filepath=", "colour=hue"])
def test_a_mapping_that_says_nothing_is_refused(pair: str) -> None:
    with pytest.raises(DatasetError, match="does not map a column"):
        column_names([pair])


def test_a_column_that_is_mapped_twice_is_refused() -> None:
    with pytest.raises(DatasetError, match="--columns maps 'label' twice: label=a, label=b"):
        column_names(["label=a", "label=b"])


def test_semicolons_of_a_spreadsheet_and_backslashes_of_windows_are_read_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "t.csv").write_text("filepath;label\na\\1.jpg;glass, clear\n")
    source = read_source(tmp_path / "t.csv")
    assert [(file.path, file.label) for file in source.files] == [("a/1.jpg", "glass, clear")]
    assert source.notes == (f"{tmp_path / 't.csv'} is read with semicolons as delimiters",)


def test_an_address_is_not_taken_for_a_missing_file() -> None:
    for url in ("https://example.org/a.zip", "s3://photos/mine", "file:///home/me/photos"):
        with pytest.raises(DatasetError, match=f"{url} is a URL") as caught:
            read_source(Path(url))
        assert "Download it" in caught.value.hint


def test_read_csv_keeps_rows_whose_files_are_missing_for_the_audit(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("filepath,label\nnowhere.jpg,a\n")
    assert [file.path for file in read_csv(tmp_path / "t.csv").files] == ["nowhere.jpg"]

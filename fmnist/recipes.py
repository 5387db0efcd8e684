"""The training recipes by name.

    python train_cnn.py --recipe quick

`classic` has the defaults of fmnist/config.py and the settings below. The other recipes contain
every setting of the training, so that they do not depend on those defaults. Options of train_cnn.py
take precedence over the recipe.
"""

MUON_ONE_CYCLE = dict(
    optimizer="muon",
    learning_rate=0.03,
    weight_decay=0.02,
    batch_size=128,
    schedule="one-cycle",
    label_smoothing=0.05,
    augment="flip",
    prune_every=2,
    ema_epochs=0,
    patience=0,
)

# Adam with weight averaging, for measurements that compare networks or programs, not recipes. The
# schedule and the number of epochs are those of the measurement.
ADAM = dict(
    optimizer="adam",
    learning_rate=3e-3,
    weight_decay=0.0,
    batch_size=256,
    dropout=None,
    label_smoothing=0.0,
    augment="flip",
    prune_every=1,
    ema_epochs=0.5,
)

RECIPES = {
    # dropout_cnn has a dropout rate of 0.5 in most tutorials. That is too high for so few epochs.
    "classic": dict(model="dropout_cnn", dropout=0.2),
    "quick": dict(MUON_ONE_CYCLE, model="allconv_cnn", epochs=10),
    "strong": dict(MUON_ONE_CYCLE, model="deep_cnn", epochs=14, augment="flip+shift"),
    "best": dict(
        MUON_ONE_CYCLE, model="deep_cnn", ensemble_size=2, epochs=42, augment="flip+shift+erase"
    ),
}

"""The training recipes by name.

    python train_cnn.py --recipe quick

A recipe contains every setting of the training. Options of train_cnn.py take precedence over it.
`classic`, the default, is for its own network only: other networks are trained with the defaults of
fmnist/config.py unless another recipe is named.
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
    "classic": dict(
        MUON_ONE_CYCLE,
        model="dropout_cnn",
        epochs=14,
        learning_rate=0.01,
        weight_decay=0.0,
        batch_size=256,
        # Most tutorials have a dropout rate of 0.5, which is too high for so few epochs.
        dropout=0.2,
        label_smoothing=0.03,
        patience=5,
    ),
    "quick": dict(MUON_ONE_CYCLE, model="allconv_cnn", epochs=10),
    "strong": dict(MUON_ONE_CYCLE, model="deep_cnn", epochs=14, augment="flip+shift"),
    "best": dict(
        MUON_ONE_CYCLE, model="deep_cnn", ensemble_size=2, epochs=42, augment="flip+shift+erase"
    ),
    # To be trained further on photographs, by tools/finetune_photos.py.
    "photo": dict(MUON_ONE_CYCLE, model="deep_cnn", epochs=20, augment="photo"),
}

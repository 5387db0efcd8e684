"""The training recipes by name.

    python train_cnn.py --recipe quick

A recipe contains the settings in which it differs from `classic`, whose settings are the defaults
in fmnist/config.py. Options of train_cnn.py take precedence over the recipe.
"""

MUON_ONE_CYCLE = dict(
    optimizer="muon",
    learning_rate=0.03,
    weight_decay=0.02,
    batch_size=128,
    schedule="one-cycle",
    label_smoothing=0.05,
    prune_every=2,
    ema_epochs=0,
    patience=0,
)

RECIPES = {
    "classic": {},
    "quick": dict(MUON_ONE_CYCLE, model="allconv_cnn", epochs=10),
    "strong": dict(MUON_ONE_CYCLE, model="deep_cnn", epochs=14, augment="flip+shift"),
    "best": dict(
        MUON_ONE_CYCLE, model="deep_cnn", ensemble_size=2, epochs=42, augment="flip+shift+erase"
    ),
}

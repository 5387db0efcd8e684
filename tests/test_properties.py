"""Property-based tests. Hypothesis generates the same inputs in every test run."""

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fmnist import atomic_io, runs, source
from fmnist.config import TrainConfig, names, parse_arguments
from fmnist.training import checkpoint

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")

NUMBERS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "patience",
    "ema_epochs",
    "dropout",
    "l2",
    "label_smoothing",
    "val_size",
    "seed",
    "limit",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
LOSSES = st.floats(0, float(np.finfo(np.float32).max)) | st.just(math.inf)
FRACTIONS = st.floats(0, 1)
NON_NEGATIVE = st.floats(0, 1e9)


@st.composite
def histories(draw):
    row = st.fixed_dictionaries(
        {
            "loss": LOSSES,
            "accuracy": FRACTIONS,
            "val_loss": LOSSES,
            "val_accuracy": FRACTIONS,
            "learning_rate": NON_NEGATIVE,
            "seconds": NON_NEGATIVE,
        }
    )
    return [{"epoch": epoch, **draw(row)} for epoch in range(1, draw(st.integers(1, 20)) + 1)]


def result_or_none(error, function, *arguments):
    """Return the result of the function, or None if it raises the error with a one-line message."""
    try:
        return function(*arguments)
    except error as caught:
        assert str(caught) and "\n" not in str(caught)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_config_file_is_loaded_or_rejected(tmp_path, content):
    (tmp_path / runs.CONFIG).write_bytes(content)
    config = result_or_none(runs.RunError, runs.load_config, tmp_path)
    assert config is None or config == json.loads(content)


@given(st.sampled_from([*names(), "fingerprint", "other"]), JSON)
def test_any_value_of_a_setting_is_accepted_unchanged_or_rejected(tmp_path, key, value):
    record = {**TrainConfig().to_record(), "fingerprint": "0", key: value}
    (tmp_path / runs.CONFIG).write_text(json.dumps(record))
    config = result_or_none(runs.RunError, runs.load_train_config, tmp_path)
    assert config is None or key in ("fingerprint", "other") or getattr(config, key) == value


@given(st.sampled_from(NUMBERS), st.text() | st.floats().map(repr) | st.integers().map(str))
def test_any_text_of_an_option_is_a_finite_number_or_rejected(capsys, name, text):
    try:
        config, _ = parse_arguments("", [f"--{name.replace('_', '-')}={text}"])
    except SystemExit as stop:
        assert stop.code == 2 and capsys.readouterr().err.count("\n") == 1
    else:
        assert math.isfinite(getattr(config, name)) and getattr(config, name) >= 0


@given(
    st.floats() | st.integers() | st.floats(0.001, 0.999) | st.integers(10, 60_000),
    st.none() | st.integers() | st.integers(20, 60_000),
)
def test_any_split_uses_all_images_and_has_all_classes_or_is_rejected(val_size, limit):
    sizes = result_or_none(source.DataError, source.split_sizes, val_size, limit)
    if sizes:
        assert sum(sizes) == (60_000 if limit is None else limit) and min(sizes) >= 10


@given(histories())
def test_any_history_is_saved_with_nine_digits(tmp_path, history):
    runs.save_epoch(tmp_path, history)
    for row, loaded_row in zip(history, runs.load_history(tmp_path), strict=True):
        assert loaded_row == pytest.approx(row, rel=1e-8, nan_ok=True)


@given(st.binary() | st.text().map(str.encode))
def test_a_history_with_any_appended_bytes_is_rejected(tmp_path, content):
    runs.save_epoch(tmp_path, [{**dict.fromkeys(runs.HISTORY, 1.0), "epoch": 1}])
    path = tmp_path / runs.HISTORY_FILE
    path.write_bytes(path.read_bytes() + content)
    history = result_or_none(runs.RunError, runs.load_history, tmp_path)
    assert history is None or not content.strip()


@given(
    histories(), st.lists(arrays.arrays(np.float32, arrays.array_shapes(min_dims=0)), max_size=3)
)
def test_any_checkpoint_is_restored_bit_for_bit(tmp_path, history, variables):
    (tmp_path / runs.CHECKPOINT).mkdir(exist_ok=True)
    checkpoint.save_state(tmp_path, variables, history)
    loaded, loaded_history = checkpoint.load_state(tmp_path)
    assert [array.tobytes() for array in loaded] == [array.tobytes() for array in variables]
    assert [array.shape for array in loaded] == [array.shape for array in variables]
    assert loaded_history == history


@given(histories(), st.integers(0, 10))
def test_the_chosen_epoch_is_the_first_with_the_lowest_loss_or_the_last(history, patience):
    chosen = runs.chosen_epoch(patience, history)
    finite = [row for row in history if math.isfinite(row["val_loss"])]
    if not finite:
        assert chosen is None
    elif patience:
        assert all(row["val_loss"] > chosen["val_loss"] for row in finite[: finite.index(chosen)])
        assert all(row["val_loss"] >= chosen["val_loss"] for row in finite)
    else:
        assert chosen is finite[-1]


@given(st.data())
@settings(max_examples=20)
def test_any_change_of_a_data_file_is_rejected(synthetic_data_dir, strategy):
    name = strategy.draw(st.sampled_from(list(source.FILES)))
    path = synthetic_data_dir / f"{name}.gz"
    original = path.read_bytes()
    try:
        content = bytearray(gzip.decompress(original))
        start = strategy.draw(st.integers(0, len(content)))
        content[start : start + strategy.draw(st.integers(0, 10))] = strategy.draw(
            st.binary(max_size=10)
        )
        path.write_bytes(strategy.draw(st.sampled_from([bytes, gzip.compress]))(bytes(content)))
        arrays_read = result_or_none(source.DataError, source.find, synthetic_data_dir)
        assert (arrays_read is None) == (bytes(content) != gzip.decompress(original))
    finally:
        path.write_bytes(original)


@given(st.binary(), st.binary(), st.booleans())
def test_an_atomic_write_leaves_the_old_or_the_new_content(tmp_path, old, new, fails):
    path = tmp_path / "file"
    path.write_bytes(old)
    try:
        with atomic_io.atomic_write(path) as temporary:
            temporary.write_bytes(new)
            if fails:
                raise OSError
    except OSError:
        pass
    assert path.read_bytes() == (old if fails else new) and [*tmp_path.iterdir()] == [path]

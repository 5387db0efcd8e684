"""The file model.keras: saved for older versions of Keras, too, and its version of Keras."""

import json
import zipfile
from pathlib import Path
from typing import Any

CONFIG, METADATA = "config.json", "metadata.json"  # in the archive
OLDEST_KERAS = "3.10"  # oldest version that opens a file of save()
# Arguments that layers and initializers got after OLDEST_KERAS, with their defaults. Older versions
# reject them, although the defaults mean the same as leaving them out.
NEW_ARGUMENTS = {
    "input_axes": None,
    "output_axes": None,
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
MIXED_PRECISION = ("mixed_float16", "mixed_bfloat16")  # names of dtype policies


def save(model: Any, path: Path) -> None:
    """Save a Keras model so that plain Keras opens it, from OLDEST_KERAS on, in float32.

    Args:
        model: Keras model. Loading it causes no warning if its optimizer has no state, like SGD.
        path: file with the suffix .keras.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents[CONFIG], object_hook=_portable)
    contents[CONFIG] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def keras_version(path: Path) -> str | None:
    """Return the version of Keras that saved a file; None if the file does not contain it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read(METADATA))["keras_version"])
    except Exception:  # a corrupt archive raises many kinds
        return None


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the config without new arguments and mixed precision.

    The weights of a network that computes in mixed precision are float32.
    """
    if config.get("name") in MIXED_PRECISION:
        return {"name": "float32"}
    return {
        name: value
        for name, value in config.items()
        if name not in NEW_ARGUMENTS or value != NEW_ARGUMENTS[name]
    }

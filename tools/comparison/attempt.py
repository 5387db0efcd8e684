"""One training of a comparison. It runs on the worker, whichever machine that is."""

import traceback
from pathlib import Path

from fmnist import atomic_io, cli, runtime
from fmnist.config import TrainConfig
from tools.comparison.results import RESULT, is_finished


def attempt(name: str, config: TrainConfig) -> str | None:
    """Train and score a contestant. Return None, or in a line why that failed.

    What was done before is not done again.

    Args:
        name: of the contestant.
        config: with the name of the run; a classical classifier heeds what it says of the data and
            the seed.
    """
    folder = Path(config.runs_dir) / config.name
    log = folder.parent / "logs" / f"{folder.name}.log"
    try:
        with cli.output_to(log):
            if not is_finished(folder, config):
                # As train() does, before Keras is imported.
                runtime.configure_tensorflow(concurrent_operations=2)
                from tools.comparison import scoring

                result = scoring.score(name, config)
                folder.mkdir(exist_ok=True)
                atomic_io.write_json(
                    folder / RESULT, {"settings": config.result_settings(), **result}
                )
    except (cli.UserError, ImportError, OSError) as error:
        return cli.one_line(error)
    except MemoryError:
        return "out of memory"
    except Exception as error:  # a defect, which must not keep the others from being trained
        with cli.output_to(log):
            traceback.print_exc()
        return f"{type(error).__name__}: {cli.one_line(error)}; see {log}"

"""One training of a comparison. It may run on a Dask worker on another machine."""

import datetime
import traceback
from pathlib import Path

from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from tools.comparison.results import RESULT, is_finished


def attempt(name: str, config: TrainConfig) -> str | None:
    """Train and score a contestant. Return None, or the error message of a failure.

    A finished training is skipped, and an interrupted one is resumed.

    Args:
        name: name of the contestant.
        config: settings, with the name of the run directory. A classical classifier uses those of
            the data and the random seed only.
    """
    folder = Path(config.runs_dir) / config.name
    log = folder.parent / "logs" / f"{folder.name}.log"
    try:
        with cli.output_to(log):
            if not is_finished(name, folder, config):
                measured = {
                    "commit": runs.commit(),
                    "processor": runtime.processor(),
                    "date": datetime.date.today().isoformat(),
                }
                # The same configuration as in train(), before Keras is imported.
                runtime.configure_tensorflow(concurrent_operations=2)
                from tools.comparison import scoring

                result = scoring.score(name, config)
                folder.mkdir(exist_ok=True)
                atomic_io.write_json(
                    folder / RESULT, {"settings": config.result_settings(), **measured, **result}
                )
    except (cli.UserError, ImportError, OSError) as error:
        return cli.one_line(error)
    except MemoryError:
        return "out of memory"
    except Exception as error:  # a defect, which must not stop the other trainings
        with cli.output_to(log):
            traceback.print_exc()
        return f"{type(error).__name__}: {cli.one_line(error)}; see {log}"

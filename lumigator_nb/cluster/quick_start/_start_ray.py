"""``ray …``, only that a head started so sets its workers up by `_set_up_worker.py`."""

from pathlib import Path

from ray._private import ray_constants
from ray.scripts.scripts import main

if __name__ == "__main__":
    # Ray joins it to a folder of its own, and of what is joined the last absolute path counts.
    ray_constants.SETUP_WORKER_FILENAME = str(Path(__file__).with_name("_set_up_worker.py"))
    main()

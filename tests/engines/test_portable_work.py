"""What encoders compute is the same in another process, and of any range of whole batches."""

from pathlib import Path

import numpy as np
import pytest

from labelfix.config import AuditConfig, BackboneConfig, DatasetConfig, TopConfig
from labelfix.data.dataset import open_dataset
from labelfix.modalities.base import get_modality
from labelfix.recipes import FullTuning, HeadTuning
from labelfix.training.distributed import World
from labelfix.utils.progress import no_progress
from labelfix.utils.shards import KnownRows, mapped_by

cloudpickle = pytest.importorskip("ray.cloudpickle")


class PortableEngine:
    """Does with a task what the way to another process does, shards last to first."""

    def map_shards(self, task):
        store, compute = cloudpickle.loads(cloudpickle.dumps((task.store, task.compute)))
        step = 2 * task.batch_size
        for start in reversed(range(0, len(store), step)):
            rows = range(start, min(start + step, len(store)))
            yield (
                rows,
                list(compute(store, rows, KnownRows(start, task.held_of(rows), task.kept()))),
            )

    def record(self):
        return {"name": "portable"}


@pytest.mark.parametrize("tune", ["head", "top", "full"])
def test_images_look_the_same(small_data: Path, tmp_path: Path, tune):
    dataset, images = open_dataset(small_data, DatasetConfig()), get_modality("image")
    config = AuditConfig(tune=tune, backbone=BackboneConfig(image_size=32), top=TopConfig(views=1))
    if tune == "head":
        tuning = HeadTuning.load(dataset, config, images)
    else:
        tuning = FullTuning.load(dataset, config, World.from_environment(), images)
    local = tuning.look(dataset, tmp_path / "local", no_progress)
    with mapped_by(PortableEngine()):
        found = tuning.look(dataset, tmp_path / "portable", no_progress)
        again = tuning.look(dataset, tmp_path / "portable", no_progress)
    for one in (found, again):
        np.testing.assert_array_equal(one.values, local.values)
        np.testing.assert_array_equal(one.content, local.content)
        assert one.unreadable == local.unreadable

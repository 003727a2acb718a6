"""Prepare a data set as its settings say: with embeddings or without, in this process or on Ray.

trash-classifier data mine --source ~/photos
trash-classifier data mine --source ~/photos --no-embeddings
trash-classifier data mine --source /shared/photos --data-dir /shared/data --engine ray
"""

from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.make_dataset import Prepared, make_dataset
from image_classification_trash.distributed.mapping import chosen_mapper


def prepare_data(settings: DataSettings) -> Prepared:
    """Prepare a data set, unless it is already prepared from the same photos and settings; raises as `make_dataset` does."""
    with chosen_mapper(settings) as mapper:
        if not settings.embeddings:
            return make_dataset(settings, None, mapper)
        from image_classification_trash.features.build_features import (  # noqa: PLC0415  torch
            near_duplicate_embedder,
        )

        return make_dataset(settings, near_duplicate_embedder(settings.interim_dir, mapper), mapper)

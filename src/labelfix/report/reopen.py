"""The data set of a finished run, opened again: the same images that were audited, or an error."""

from dataclasses import replace
from pathlib import Path

from labelfix.config import DatasetConfig
from labelfix.data.columns import TEXT_ROLES
from labelfix.data.dataset import open_dataset
from labelfix.data.probability_samples import location_of, open_shown
from labelfix.data.remote import explained_remote
from labelfix.data.stores import shown_images
from labelfix.data.vectors import samples_shown
from labelfix.errors import DatasetError
from labelfix.modalities.base import Renderer, get_modality, is_known, no_pictures, wording_of
from labelfix.report.types import Report
from labelfix.types import MEMORY_KIND, PRED_PROBS_KIND, LabeledDataset
from labelfix.utils.progress import OnProgress, no_progress

NO_IMAGES = (
    "Only probabilities were given to this audit, so there are no pictures to show: an audit with "
    "--images DIR, --image-column or --text-column knows where they are."
)


def config_of(report: Report) -> DatasetConfig:
    """Return how the data set of a report is to be read, to find the same samples again."""
    roles = report.run.source.columns
    columns = {f"{role}_column": name for role, name in roles.items() if role not in TEXT_ROLES}
    settings = report.run.settings
    features = settings.get("features")
    return DatasetConfig(
        **columns,
        text_column=tuple(roles[role] for role in TEXT_ROLES if role in roles),
        features=None if features is None else Path(features),
        test_split=tuple(settings.get("test_splits", ())),
        label_missing=tuple(settings.get("label_missing", ())),
        outside_files=report.run.source.follow_links,
    )


def open_audited(
    report: Report,
    on_progress: OnProgress = no_progress,
    *,
    instead: str = "",
    as_shown: bool = True,
) -> LabeledDataset | None:
    """Open the data set of a report, ``None`` if it is on given probabilities.

    Args:
        report: Whose images are asked for.
        on_progress: Told what is going on.
        instead: What else the user may do, the end of a hint.
        as_shown: Whether the pictures or texts beside embeddings are opened, not the embeddings.

    Raises:
        DatasetError: The data set is gone, or its images are not those that were audited.
    """
    source = report.run.source
    if source.kind == PRED_PROBS_KIND:
        return None
    if source.kind == MEMORY_KIND:
        raise DatasetError(
            f"the audited data, {source.path}, were in the memory of a program",
            hint=f"audit files for that{instead}",
        )
    with explained_remote(source.path):
        is_there = source.path.exists()
    if not is_there:
        raise DatasetError(
            f"{source.path}, the audited data set, is gone",
            hint=f"put it back where it was{instead}",
        )
    words = wording_of(report.run.modality)
    config = config_of(report)
    dataset = open_dataset(source.path, config, on_progress)
    is_same = dataset.fingerprint == report.run.fingerprint
    if not is_same or not report.has_names(dataset.sample_id):
        raise DatasetError(
            f"{source.path} has changed since the audit: its {words.plural} are not those of the "
            "report",
            hint=f"audit it again{instead}",
        )
    return replace(dataset, store=samples_shown(dataset.store)) if as_shown else dataset


def find_renderer(
    report: Report, on_progress: OnProgress = no_progress, *, follow_links: bool = False
) -> Renderer:
    """Return who shows the samples of a report, whose data set is opened again.

    Of samples that cannot be shown at all the renderer says why.

    Args:
        report: Names the data set and the modality, and says how samples were read.
        on_progress: Told how far it is.
        follow_links: Whether to show samples that links outside the data set lead to.

    Raises:
        DatasetError: The data set is gone, or its samples are not those that were audited.
    """
    if report.run.source.kind == PRED_PROBS_KIND:
        return _renderer_of_given(report, on_progress, follow_links=follow_links)
    name = report.run.modality or "image"  # a report without the key may be on images
    if not is_known(name):
        return no_pictures(
            f"These samples are of the kind {name!r}, which is from outside labelfix: only the "
            "program that audited them can show them."
        )
    if report.run.source.kind == MEMORY_KIND:
        return no_pictures(
            "The samples were in the memory of the program that audited them, which alone can show "
            "them."
        )
    dataset = open_audited(report, on_progress)
    if dataset is None:
        return no_pictures(NO_IMAGES)
    store = shown_images(dataset, follow_links=follow_links)
    return get_modality(name).renderer(store, report.run.settings, on_progress)


def _renderer_of_given(report: Report, on_progress: OnProgress, *, follow_links: bool) -> Renderer:
    """Return who shows the samples of given probabilities, if anybody said where they are."""
    location = location_of(report.run.settings)
    if location is None:
        return no_pictures(NO_IMAGES)
    ids = report.read(["sample_id"])["sample_id"].combine_chunks()
    try:
        store = open_shown(report.run.source.path, ids, location, follow_links=follow_links)
    except DatasetError as error:  # the decisions need none of it
        return no_pictures(f"The samples cannot be shown: {error}; {error.hint}.")
    return get_modality(location.kind).renderer(store, {}, on_progress)

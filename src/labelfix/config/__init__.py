"""What a run is asked to do: settings, the options that name them, and files that hold them.

In: values of the command line, of Python and of a TOML file. Out: one frozen `AuditConfig`.
"""

from labelfix.config.settings import (
    EMBEDDED_BACKBONE,
    MIN_PROBABILITY,
    AuditConfig,
    AutoConfig,
    BackboneConfig,
    DatasetConfig,
    Device,
    FineTuningConfig,
    FlagConfig,
    HeadConfig,
    ImageConfig,
    IssueConfig,
    RegularizationConfig,
    ScoringConfig,
    SelfLabelingConfig,
    SelfLabelingRules,
    TopConfig,
    TopRegularizationConfig,
    Tune,
    refuse_unknown_device,
    refuse_unknown_seed,
    settings_to_report,
)

__all__ = [
    "EMBEDDED_BACKBONE",
    "MIN_PROBABILITY",
    "AuditConfig",
    "AutoConfig",
    "BackboneConfig",
    "DatasetConfig",
    "Device",
    "FineTuningConfig",
    "FlagConfig",
    "HeadConfig",
    "ImageConfig",
    "IssueConfig",
    "RegularizationConfig",
    "ScoringConfig",
    "SelfLabelingConfig",
    "SelfLabelingRules",
    "TopConfig",
    "TopRegularizationConfig",
    "Tune",
    "refuse_unknown_device",
    "refuse_unknown_seed",
    "settings_to_report",
]

"""What the server of `command_processes` loads once, so that each process of it starts at once."""

import py3langid  # noqa: F401
import sklearn.linear_model  # noqa: F401
import timm  # noqa: F401
import torch  # noqa: F401
import wordllama  # noqa: F401

import labelfix.api
import labelfix.cli.main  # noqa: F401

"""`metering keys limit`: limits of one key, kept until they are removed."""

import json

import pytest

from tests.command_line import metering

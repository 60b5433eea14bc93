# SPDX-License-Identifier: Apache-2.0
"""What checks the annotations in the tests: beartype, to which an int is a float too, as PEP 484 says."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

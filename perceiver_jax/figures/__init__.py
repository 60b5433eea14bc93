# SPDX-License-Identifier: Apache-2.0
"""NumPy in, image out (uint8 RGB); no figure knows a task, a model or a data set."""

# SPDX-License-Identifier: Apache-2.0
"""How the same command starts elsewhere: as several processes, on other machines, again after it was cut off."""

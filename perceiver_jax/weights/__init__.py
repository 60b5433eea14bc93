# SPDX-License-Identifier: Apache-2.0
"""Naming, choosing and taking over parameters."""

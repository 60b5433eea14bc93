# SPDX-License-Identifier: Apache-2.0
"""Losses per example and statistics that add up over batches."""

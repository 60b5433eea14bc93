# SPDX-License-Identifier: Apache-2.0
"""Where batches come from: sources of examples, the plan of batch i, and the pipeline that serves it."""

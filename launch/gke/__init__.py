# SPDX-License-Identifier: Apache-2.0
"""A run as a JobSet of a Kubernetes cluster with TPUs."""

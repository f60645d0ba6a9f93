// SPDX-License-Identifier: Apache-2.0
//! Competes for the lease; the leader enqueues time-driven work.

// SPDX-License-Identifier: Apache-2.0
//! How every process starts, shows itself and stops: configuration, telemetry, metrics, health, drain.

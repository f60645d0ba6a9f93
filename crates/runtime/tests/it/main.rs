// SPDX-License-Identifier: Apache-2.0
//! Claims about whole processes: how they start, what they answer, how they end.
//!
//! Nothing here reaches beyond this host.

#[cfg(all(test, feature = "drill"))]
mod drill;
#[cfg(test)]
mod end;
#[cfg(test)]
mod service;
#[cfg(test)]
mod start;

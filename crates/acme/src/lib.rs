// SPDX-License-Identifier: Apache-2.0
//! The CA port over instant-acme. The only crate that names it.

// SPDX-License-Identifier: Apache-2.0
//! The outside world, one provider a file: KEK providers.

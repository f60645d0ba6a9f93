// SPDX-License-Identifier: Apache-2.0
//! Claims jobs and drives them to their end.

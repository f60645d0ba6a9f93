// SPDX-License-Identifier: Apache-2.0
//! The REST API and the HTTP-01 responder.

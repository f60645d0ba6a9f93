// SPDX-License-Identifier: Apache-2.0
//! MongoDB: repositories, transactions, migrations. The only crate that names the driver.

// SPDX-License-Identifier: Apache-2.0
//! What belongs together is read together; groups of one process are read side by side.

use super::Config;

/// A typed part of the configuration.
pub trait Group: Sized {
    /// Reads it. Answers nothing only after it noted a fault; reads on after the first one.
    fn read(config: &mut Config) -> Option<Self>;
}

macro_rules! tuples {
    ($($group:ident)*) => {
        impl<$($group: Group),*> Group for ($($group,)*) {
            #[expect(non_snake_case, reason = "types and values share their letters")]
            fn read(config: &mut Config) -> Option<Self> {
                // All of them first: the second must tell its faults even when the first had some.
                $(let $group = $group::read(config);)*
                Some(($($group?,)*))
            }
        }
    };
}

impl Group for () {
    fn read(_config: &mut Config) -> Option<Self> {
        Some(())
    }
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);

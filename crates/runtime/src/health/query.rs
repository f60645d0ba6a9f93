// SPDX-License-Identifier: Apache-2.0
//! The query of `/readyz`.

use cap_core::health::Check;

/// What `/readyz` was asked: `?verbose`, and `?exclude=NAME` as often as wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadyQuery {
    /// List the checks that pass, too.
    pub verbose: bool,
    /// Leave these out of the verdict.
    pub exclude: Vec<Check>,
}

/// A query that we do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the query is not known; write verbose, or exclude= and one of mongo, kek, schema, shutdown")]
pub struct BadQuery;

impl ReadyQuery {
    /// Parses the part of the URI behind the question mark.
    ///
    /// # Errors
    /// When it has anything else in it: a check that is misspelt would otherwise still count.
    pub fn parse(query: Option<&str>) -> Result<Self, BadQuery> {
        let mut parsed = Self::default();
        let parts = query.unwrap_or_default().split('&');
        for part in parts.filter(|part| !part.is_empty()) {
            match part.split_once('=').unwrap_or((part, "")) {
                ("verbose", "" | "1" | "true") => parsed.verbose = true,
                ("verbose", "0" | "false") => parsed.verbose = false,
                ("exclude", name) => {
                    let known = Check::ALL.into_iter().find(|check| check.as_str() == name);
                    parsed.exclude.push(known.ok_or(BadQuery)?);
                }
                _ => return Err(BadQuery),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_queries_are_read() {
        assert_eq!(ReadyQuery::parse(None), Ok(ReadyQuery::default()));
        let query = ReadyQuery::parse(Some("verbose&exclude=kek&exclude=schema")).unwrap();
        assert!(query.verbose);
        assert_eq!(query.exclude, [Check::Kek, Check::Schema]);
    }

    #[test]
    fn an_unknown_check_is_refused() {
        for query in ["exclude=kekk", "exclude", "verbos", "verbose=maybe"] {
            assert_eq!(ReadyQuery::parse(Some(query)), Err(BadQuery), "{query}");
        }
    }
}

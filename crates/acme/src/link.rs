// SPDX-License-Identifier: Apache-2.0
//! The `Link` headers of an answer (RFC 8288): where a certificate's other chains are (RFC 8555, 7.4.2).

use cap_core::limits;
use http::{HeaderMap, header};
use url::Url;

/// Links of an answer that are looked at: CAs offer two or three chains.
const LINKS: usize = 16;

/// Where `rel="alternate"` leads, in the order of the answer, as seen from `base`. What cannot be read is left out: a
/// chain that is not offered is no harm.
pub(crate) fn alternates(headers: &HeaderMap, base: &str) -> Vec<String> {
    let Ok(base) = Url::parse(base) else { return Vec::new() };
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(links)
        .take(LINKS)
        .filter(|(_, parameters)| is_alternate(parameters))
        .filter_map(|(target, _)| base.join(target).ok())
        .map(String::from)
        .filter(|url| url.len() <= limits::URL_OCTETS)
        .collect()
}

/// The links of one header: their targets and the parameters behind them.
fn links(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (target, behind) = rest.split_once('<')?.1.split_once('>')?;
        let end = unquoted(behind, ',').unwrap_or(behind.len());
        let (parameters, next) = behind.split_at(end);
        rest = next;
        Some((target, parameters))
    })
}

/// A relation has several names at times, and any case.
fn is_alternate(parameters: &str) -> bool {
    let mut rest = parameters;
    while let Some((_, behind)) = rest.split_once(';') {
        let (parameter, next) = behind.split_at(unquoted(behind, ';').unwrap_or(behind.len()));
        rest = next;
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("rel") {
            let mut names = value.trim().trim_matches('"').split_ascii_whitespace();
            return names.any(|name| name.eq_ignore_ascii_case("alternate"));
        }
    }
    false
}

/// Where `wanted` stands first outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        let is_it = !quoted && c == wanted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        is_it.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: &str = "https://ca.test/cert/1";

    fn of(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::LINK, value.parse().unwrap());
        }
        alternates(&headers, BASE)
    }

    #[test]
    fn alternates_are_found_in_one_header_and_in_many() {
        let one = "<https://ca.test/dir>;rel=\"index\", <https://ca.test/cert/1/1>; title=\"a, b; rel=x\"; rel=\"alternate\"";
        assert_eq!(of(&[one]), ["https://ca.test/cert/1/1"]);
        let many = ["<https://ca.test/a>;rel=alternate", "</b>; REL=\"up Alternate\"", "<c>;rel=\"up\""];
        assert_eq!(of(&many), ["https://ca.test/a", "https://ca.test/b"]);
    }

    #[test]
    fn what_is_no_alternate_is_left_out() {
        for other in [
            "",
            "<",
            "<x",
            "<x>",
            "<x>;rel",
            "<x>;rel=\"index\"",
            "<x>;title=\"rel=alternate\"",
            "rel=alternate",
        ] {
            assert_eq!(of(&[other]), Vec::<String>::new(), "{other:?}");
        }
        assert_eq!(
            of(&[&format!("</{}>;rel=alternate", "x".repeat(limits::URL_OCTETS))]),
            Vec::<String>::new()
        );
        assert!(of(&["<a>;rel=alternate"; 100]).len() <= LINKS);
    }

    proptest! {
        #[test]
        fn any_link_is_read_or_left_out(text in "[ -~]{0,60}|(<[a-z]{0,3}>;rel=\"?alternate\"?[,;]?){0,4}") {
            let _ = of(&[&text]);
        }
    }
}

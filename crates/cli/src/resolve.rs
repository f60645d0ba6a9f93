// SPDX-License-Identifier: Apache-2.0
//! From what people type to ids.

use cap_client::wire::Certificate;
use cap_client::{All, CertificateQuery, Client};
use cap_core::id::CertificateId;
use cap_core::name::Identifier;

use crate::app::every;
use crate::exit::Exit;
use crate::failure::Failure;

/// The certificate with this id, or the only one with this name.
pub(crate) async fn certificate(
    client: &Client,
    project: &str,
    text: &str,
) -> Result<CertificateId, Failure> {
    if let Ok(id) = text.parse::<CertificateId>() {
        return Ok(id);
    }
    let all =
        every(async |page| client.certificates(project, &CertificateQuery { page, status: None }).await);
    choose(text, &all.await?)
}

/// The only certificate that has this name, however it is typed. Of a part of the list nobody knows whether it is the only one.
fn choose(text: &str, all: &All<Certificate>) -> Result<CertificateId, Failure> {
    let name: Identifier = text.parse().map_err(|error: cap_core::name::BadName| {
        Failure::usage(format!("{text:?} names no certificate"), error.to_string())
            .hint("give an id, as in crt_0192…, or one of its names")
    })?;
    let name = name.to_string();
    if !all.complete {
        let what = format!("{name} may be the name of several certificates");
        let why = format!("the project has more than the {} that were read", all.items.len());
        return Err(Failure::new(Exit::Error, what, why).hint("give an id, as in crt_0192…"));
    }
    let certificates = all.items.iter();
    let found: Vec<CertificateId> = certificates
        .filter(|certificate| certificate.names.contains(&name))
        .map(|certificate| certificate.id)
        .collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(Failure::new(
            Exit::NotFound,
            format!("there is no certificate for {name}"),
            "none in this project has that name",
        )
        .hint("`certautopilot cert list` shows those that there are")),
        several => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            let why = format!("it is a name of {}", ids.join(", "));
            Err(Failure::usage(format!("{name} is ambiguous"), why).hint("give one of these ids"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::shown_tests::certificate;

    fn all<const N: usize>(items: [&Certificate; N]) -> All<Certificate> {
        All { items: items.map(Clone::clone).to_vec(), complete: true }
    }

    #[test]
    fn a_certificate_is_found_by_any_of_its_names_however_typed() {
        let one = certificate();
        for name in ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "192.0.2.1"] {
            assert_eq!(choose(name, &all([&one])).unwrap(), one.id, "{name}");
        }
    }

    #[test]
    fn a_name_that_several_have_is_refused_with_their_ids() {
        let (one, mut two) = (certificate(), certificate());
        two.id = format!("crt_{}2", "0".repeat(31)).parse().unwrap();
        let failure = choose("www.example.com", &all([&one, &two])).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains(&one.id.to_string()));
        assert!(failure.to_string().contains(&two.id.to_string()));
    }

    #[test]
    fn what_nobody_has_is_not_found_and_what_is_no_name_is_refused() {
        let one = certificate();
        let exit = |name| choose(name, &all([&one])).unwrap_err().exit();
        assert_eq!(exit("other.example"), Exit::NotFound);
        assert_eq!(exit("example.com"), Exit::NotFound);
        assert_eq!(exit("crt_1"), Exit::Usage);
    }

    #[test]
    fn a_name_is_not_looked_up_in_a_part_of_the_list() {
        let part = All { complete: false, ..all([&certificate()]) };
        for name in ["www.example.com", "other.example"] {
            let failure = choose(name, &part).unwrap_err();
            assert_eq!(failure.exit(), Exit::Error);
            assert!(failure.to_string().contains("hint: give an id"), "{failure}");
        }
        assert_eq!(choose("crt_1", &part).unwrap_err().exit(), Exit::Usage);
    }
}

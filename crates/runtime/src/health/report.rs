// SPDX-License-Identifier: Apache-2.0
//! The answer of `/readyz`: the habit of Kubernetes' own components.

use std::fmt::Write as _;

use cap_core::health::Finding;

/// The answer, whatever listener gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The HTTP status: 200 or 503.
    pub status: u16,
    /// The plain text.
    pub text: String,
}

/// Renders findings. The list is given when something is wrong or `verbose` asks for it; what is wrong with a check
/// is told only when the caller may know `reasons`.
#[must_use]
pub fn report(findings: &[Finding], verbose: bool, reasons: bool) -> Report {
    let is_ready = findings.iter().all(|finding| finding.fault.is_none());
    let status = if is_ready { 200 } else { 503 };
    if is_ready && !verbose {
        let text = "ok\n".to_owned();
        return Report { status, text };
    }
    let mut text = String::new();
    for finding in findings {
        let _ = if finding.fault.is_some() && !reasons {
            writeln!(text, "[-]{} failed: reason withheld", finding.check.as_str())
        } else {
            writeln!(text, "{finding}")
        };
    }
    text.push_str(if is_ready { "readyz check passed\n" } else { "readyz check failed\n" });
    Report { status, text }
}

#[cfg(test)]
mod tests {
    use cap_core::health::Check;

    use super::*;

    fn finding(check: Check, fault: Option<&str>) -> Finding {
        let fault = fault.map(str::to_owned);
        Finding { check, fault }
    }

    #[test]
    fn a_ready_process_says_ok_and_lists_only_when_asked() {
        let good = [finding(Check::Mongo, None), finding(Check::Shutdown, None)];
        assert_eq!(report(&good, false, true), Report { status: 200, text: "ok\n".into() });
        let text = "[+]mongo ok\n[+]shutdown ok\nreadyz check passed\n".into();
        assert_eq!(report(&good, true, false), Report { status: 200, text });
    }

    #[test]
    fn reasons_are_for_those_who_may_know_them() {
        let bad = [finding(Check::Mongo, Some("no primary at db-0")), finding(Check::Kek, None)];
        let told = report(&bad, false, true);
        assert_eq!(told.status, 503);
        assert_eq!(told.text, "[-]mongo failed: no primary at db-0\n[+]kek ok\nreadyz check failed\n");
        let withheld = report(&bad, true, false);
        assert_eq!(withheld.status, 503);
        assert!(withheld.text.starts_with("[-]mongo failed: reason withheld\n"));
        assert!(!withheld.text.contains("db-0"));
    }
}

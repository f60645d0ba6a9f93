// SPDX-License-Identifier: Apache-2.0
//! The error classes, case by case.

use bytes::Bytes;
use http::StatusCode;

use super::*;

fn now() -> Timestamp {
    "2026-10-21T07:28:00Z".parse().unwrap()
}

fn answer(action: Action, status: u16, kind: &str) -> Answer {
    let body = match kind {
        "" => Bytes::new(),
        "html" => Bytes::from_static(b"<html>404 page not found</html>"),
        kind => Bytes::from(format!(
            r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"because","status":{status}}}"#
        )),
    };
    Answer {
        action: Some(action),
        url: "https://ca.example.test/x".into(),
        status: StatusCode::from_u16(status).ok(),
        body,
        ..Answer::default()
    }
}

fn judge(answer: &Answer) -> CaError {
    classify(&Error::Str("hidden"), Action::Order, answer, now())
}

/// The variant, and the class of its problem.
fn shape(failure: &CaError) -> (&'static str, Class) {
    match failure {
        CaError::Transient(problem) => ("transient", problem.class),
        CaError::Later { problem, .. } => ("later", problem.class),
        CaError::OutOfStep(problem) => ("out of step", problem.class),
        CaError::Refused(problem) => ("refused", problem.class),
        CaError::Account(problem) => ("account", problem.class),
        CaError::NeedsPerson(problem) => ("needs a person", problem.class),
        CaError::Gone(problem) => ("gone", problem.class),
    }
}

#[test]
fn each_answer_has_its_class() {
    use Action::{
        Account, Authorization, Certificate, Challenge, Deactivation, Directory, Finalize, KeyChange,
        NewOrder, Nonce, Order, RenewalInfo, Revocation,
    };
    let again = ("transient", Class::Transient);
    let out_of_step = ("out of step", Class::Transient);
    let later = ("later", Class::RateLimited);
    let gone = ("gone", Class::Protocol);
    let refused = |class| ("refused", class);
    let account = ("account", Class::Configuration);
    let cases = [
        (NewOrder, 400, "badNonce", again),
        (NewOrder, 500, "serverInternal", again),
        (Order, 400, "serverInternal", again),
        (Order, 502, "html", again),
        (Nonce, 503, "", again),
        (NewOrder, 408, "", again),
        (NewOrder, 403, "html", again),
        (NewOrder, 429, "rateLimited", later),
        (NewOrder, 429, "html", later),
        (Finalize, 403, "rateLimited", later),
        (NewOrder, 503, "rateLimited", later),
        (Finalize, 403, "orderNotReady", out_of_step),
        (Finalize, 403, "", out_of_step),
        (Finalize, 403, "unauthorized", out_of_step),
        (Finalize, 403, "caa", refused(Class::Validation)),
        (Challenge, 400, "malformed", out_of_step),
        (NewOrder, 400, "malformed", refused(Class::Protocol)),
        (Order, 404, "", refused(Class::Protocol)),
        (Order, 410, "", refused(Class::Protocol)),
        (Order, 404, "malformed", gone),
        (Order, 410, "orderDoesNotExist", gone),
        (Order, 404, "unauthorized", account),
        (Order, 404, "accountDoesNotExist", account),
        (Order, 400, "malformed", refused(Class::Protocol)),
        (Finalize, 404, "", again),
        (Finalize, 404, "malformed", refused(Class::Protocol)),
        (Certificate, 404, "", again),
        (Authorization, 404, "malformed", refused(Class::Protocol)),
        (Certificate, 404, "malformed", refused(Class::Protocol)),
        (Order, 404, "html", again),
        (NewOrder, 409, "alreadyReplaced", refused(Class::Protocol)),
        (RenewalInfo, 404, "malformed", refused(Class::Protocol)),
        (KeyChange, 501, "rejectedIdentifier", refused(Class::Configuration)),
        (KeyChange, 405, "html", refused(Class::Configuration)),
        (Deactivation, 501, "html", refused(Class::Configuration)),
        (Revocation, 501, "html", refused(Class::Configuration)),
        (KeyChange, 502, "html", again),
        (NewOrder, 501, "html", again),
        (RenewalInfo, 404, "html", refused(Class::Protocol)),
        (RenewalInfo, 500, "", again),
        (RenewalInfo, 429, "", later),
        (Directory, 404, "html", refused(Class::Configuration)),
        (Account, 400, "accountDoesNotExist", account),
        (NewOrder, 400, "accountDoesNotExist", account),
        (Account, 403, "unauthorized", account),
        (NewOrder, 403, "unauthorized", account),
        (Account, 403, "externalAccountRequired", refused(Class::Configuration)),
        (NewOrder, 400, "invalidProfile", refused(Class::Configuration)),
        (NewOrder, 403, "userActionRequired", refused(Class::Configuration)),
        (NewOrder, 400, "rejectedIdentifier", refused(Class::Validation)),
        (NewOrder, 403, "caa", refused(Class::Validation)),
        (NewOrder, 400, "dns", refused(Class::Validation)),
        (Challenge, 400, "connection", refused(Class::Validation)),
        (Finalize, 400, "badCSR", refused(Class::Protocol)),
        (Finalize, 400, "badPublicKey", refused(Class::Protocol)),
        (NewOrder, 418, "neverHeardOf", refused(Class::Protocol)),
    ];
    for (action, status, kind, expected) in cases {
        let failure = judge(&answer(action, status, kind));
        assert_eq!(shape(&failure), expected, "{action:?} {status} {kind}");
    }
}

#[test]
fn a_gateways_json_is_not_the_cas_word_on_an_order() {
    for (status, body) in [(403, r#"{"message":"Forbidden"}"#), (404, r#"{"kind":"Status","code":404}"#)] {
        for action in [Action::Order, Action::Certificate] {
            let gateway = Answer { body: body.as_bytes().to_vec().into(), ..answer(action, status, "html") };
            assert!(matches!(judge(&gateway), CaError::Transient(_)), "{action:?} {body}");
        }
    }
}

#[test]
fn only_the_cas_own_words_say_that_an_order_is_gone() {
    for (status, body) in [(404, ""), (410, ""), (404, "html"), (404, r#"{"type":"about:blank"}"#)] {
        let silent = Answer { body: body.as_bytes().to_vec().into(), ..answer(Action::Order, status, "") };
        assert!(!matches!(judge(&silent), CaError::Gone(_)), "{status} {body:?}");
    }
    for action in [Action::Authorization, Action::Challenge, Action::Finalize, Action::Certificate] {
        let elsewhere = judge(&answer(action, 404, "malformed"));
        assert!(!matches!(elsewhere, CaError::Gone(_)), "{action:?} is not the order's URL");
    }
}

#[test]
fn a_rate_limit_is_obeyed_as_long_as_the_ca_says() {
    let until = "2026-10-21T09:00:00Z".parse().unwrap();
    let limited = Answer { retry_after: Some(until), ..answer(Action::NewOrder, 429, "rateLimited") };
    assert!(matches!(judge(&limited), CaError::Later { at, .. } if at == until));
    assert!(is_rate_limit(&judge(&limited)));
}

#[test]
fn a_rate_limit_without_a_time_is_obeyed_for_an_hour() {
    let failure = judge(&answer(Action::NewOrder, 429, "rateLimited"));
    assert!(matches!(failure, CaError::Later { at, .. } if at == later(now(), RATE_LIMIT_WAIT)));
}

#[test]
fn maintenance_with_a_time_is_no_rate_limit() {
    let closed = Answer { retry_after: Some(now()), ..answer(Action::NewOrder, 503, "serverInternal") };
    assert_eq!(shape(&judge(&closed)), ("later", Class::Transient));
    assert!(!is_rate_limit(&judge(&closed)));
}

#[test]
fn every_passing_fault_may_say_when_to_come_back() {
    let at = "2026-10-21T09:00:00Z".parse().unwrap();
    let cases = [
        (Action::Order, 500, "serverInternal"),
        (Action::Order, 400, "serverInternal"),
        (Action::NewOrder, 502, "html"),
        (Action::Authorization, 504, ""),
        (Action::Challenge, 408, ""),
        (Action::Certificate, 425, ""),
        (Action::Finalize, 403, "orderNotReady"),
    ];
    for (action, status, kind) in cases {
        let dated = Answer { retry_after: Some(at), ..answer(action, status, kind) };
        let failure = judge(&dated);
        assert!(
            matches!(&failure, CaError::Later { at: said, .. } if *said == at),
            "{status} {kind}: {failure}"
        );
        assert_eq!(shape(&failure), ("later", Class::Transient), "{status} {kind} is no rate limit");
    }
    let refused = Answer { retry_after: Some(at), ..answer(Action::NewOrder, 400, "rejectedIdentifier") };
    assert!(
        matches!(judge(&refused), CaError::Refused(problem) if problem.retry_at == Some(at)),
        "a refusal is one, and says until when"
    );
    for action in [Action::Order, Action::Finalize] {
        let gateway = Answer { retry_after: Some(at), ..answer(action, 403, "html") };
        assert!(
            matches!(judge(&gateway), CaError::Later { at: said, .. } if said == at),
            "a gateway's wait is kept"
        );
    }
    let nonce = Answer { retry_after: Some(at), ..answer(Action::NewOrder, 400, "badNonce") };
    assert!(matches!(judge(&nonce), CaError::Transient(_)), "another nonce is all that is missing");
}

#[test]
fn who_must_agree_to_new_terms_is_shown_where() {
    let said = |instance: &str| {
        let body = format!(
            r#"{{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"new terms","instance":"{instance}"}}"#
        );
        let mut answer = answer(Action::NewOrder, 403, "");
        answer.body = Bytes::from(body);
        judge(&answer)
    };
    let asked = said("https://ca.example.test/terms/2026");
    assert!(asked.to_string().contains("new terms: https://ca.example.test/terms/2026; do what"), "{asked}");
    let no_page = ["javascript:alert(1)", &format!("https://ca.example.test/{}", "x".repeat(300))];
    for instance in no_page {
        assert!(said(instance).to_string().contains("new terms; do what"), "{instance}");
    }
}

#[test]
fn a_paused_name_shows_where_to_unpause_it() {
    let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"paused, see https://portal.example.test/sfe/v1/unpause?jwt=x"}"#;
    let paused =
        Answer { body: Bytes::from_static(body.as_bytes()), ..answer(Action::NewOrder, 429, "rateLimited") };
    let text = judge(&paused).to_string();
    assert!(text.contains("https://portal.example.test/sfe/v1/unpause?jwt=x"), "{text}");
    assert!(text.contains("the CA has paused this name"), "{text}");
    assert!(matches!(judge(&paused), CaError::NeedsPerson(_)));
    let until = "2026-10-21T09:00:00Z".parse().unwrap();
    let later = Answer { retry_after: Some(until), ..paused };
    assert!(matches!(judge(&later), CaError::Later { .. }), "who says when has paused nothing");
}

#[test]
fn good_answers_that_cannot_be_used_are_transient() {
    let failure = judge(&answer(Action::NewOrder, 201, "html"));
    assert_eq!(shape(&failure), ("transient", Class::Transient));
}

#[test]
fn an_error_in_an_object_is_about_the_name() {
    let body = r#"{"type":"urn:ietf:params:acme:error:unauthorized","detail":"wrong answer"}"#;
    let problem: instant_acme::Problem = serde_json::from_str(body).unwrap();
    let good = answer(Action::Challenge, 200, "");
    let failure = classify(&Error::Api(problem), Action::Challenge, &good, now());
    assert_eq!(shape(&failure), ("refused", Class::Validation));
}

#[test]
fn the_text_keeps_the_type_and_the_words_of_the_ca() {
    let body = r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"2 names refused",
        "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"forbidden","identifier":{"type":"dns","value":"a.test"}}]}"#;
    let refused = Answer { body: Bytes::from_static(body.as_bytes()), ..answer(Action::NewOrder, 400, "") };
    let CaError::Refused(problem) = judge(&refused) else {
        panic!("not refused");
    };
    assert_eq!(problem.kind, "urn:ietf:params:acme:error:rejectedIdentifier");
    assert_eq!(
        problem.detail,
        "placing the order failed: 2 names refused; a.test: forbidden; the CA does not issue for this name"
    );
}

#[test]
fn what_a_ca_leaves_empty_takes_nothing_from_the_rest() {
    for empty in [
        r#""subproblems":null"#,
        r#""subproblems":[{"detail":null,"identifier":null}]"#,
        r#""subproblems":[{"identifier":{"type":"dns"}}]"#,
    ] {
        let body = format!(r#"{{"type":"urn:ietf:params:acme:error:caa","detail":"forbidden",{empty}}}"#);
        let refused = Answer { body: Bytes::from(body), ..answer(Action::NewOrder, 403, "") };
        let CaError::Refused(problem) = judge(&refused) else { panic!("{empty}: not refused") };
        assert_eq!((&*problem.kind, problem.class), ("urn:ietf:params:acme:error:caa", Class::Validation));
        assert!(problem.detail.contains("forbidden"), "{problem:?}");
    }
}

#[test]
fn a_redirect_of_the_directory_names_the_right_url() {
    let moved = Answer {
        location: Some("https://ca.example.test/acme/dir".into()),
        ..answer(Action::Directory, 301, "html")
    };
    let failure = judge(&moved);
    assert_eq!(shape(&failure), ("refused", Class::Configuration));
    assert!(failure.to_string().contains("https://ca.example.test/acme/dir"));
}

#[test]
fn without_an_answer_the_fault_is_the_networks() {
    let fault = Error::Other(Box::new(Unreachable::Slow(Duration::from_secs(15))));
    let failure = classify(&fault, Action::Finalize, &Answer::default(), now());
    assert_eq!(shape(&failure), ("transient", Class::Transient));
    assert!(failure.to_string().contains("no answer within 15 s"));
}

/// Where several problems come as one, the first of them says what is to be done.
#[test]
fn several_problems_in_one_are_met_as_the_first_of_them() {
    let part = |kind: &str| format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"because"}}"#);
    let whole = format!(
        r#"{{"type":"urn:ietf:params:acme:error:compound","detail":"both","subproblems":[{},{}]}}"#,
        part("badCSR"),
        part("caa")
    );
    let both = Answer { body: whole.into_bytes().into(), ..answer(Action::Finalize, 400, "") };
    let CaError::Refused(problem) = judge(&both) else { panic!("{:?}", judge(&both)) };
    assert_eq!(problem.kind, "urn:ietf:params:acme:error:badCSR");
}

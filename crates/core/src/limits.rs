// SPDX-License-Identifier: Apache-2.0
//! Every bound of the domain: its name, its unit, its reason.

use std::time::Duration;

/// Names in one certificate. What Let's Encrypt and most public CAs accept.
pub const CERTIFICATE_NAMES: usize = 100;
/// Octets of a DNS name without the trailing dot (RFC 1035, 2.3.4).
pub const DNS_NAME_OCTETS: usize = 253;
/// Octets of a DNS name as somebody types it, before it is normalised.
pub const TYPED_NAME_OCTETS: usize = 1024;
/// Characters of the name of a project, an issuer or a token: it must fit a line of a table.
pub const LABEL_CHARS: usize = 63;
/// Characters of a profile's name.
pub const PROFILE_CHARS: usize = 64;
/// Characters of the name by which a chain is preferred: the standard's bound of a common name is 64 (RFC 5280, A.1), and
/// CAs go beyond it.
pub const CHAIN_NAME_CHARS: usize = 128;
/// Chains beside its default that a CA is asked for, to find the preferred one: CAs offer two or three.
pub const CHAIN_ALTERNATES: usize = 8;
/// Passing faults of an order's other chains, before it is content with the default one.
pub const CHAIN_FAULTS: u32 = 3;
/// How long one of them may ask to be waited for another chain: there is a certificate to be had.
pub const CHAIN_WAIT: Duration = Duration::from_secs(600);
/// Keys that one worker makes at once where making one takes long: RSA, up to seconds of a processor each.
pub const SLOW_KEYS: usize = 2;
/// Octets of a URL that we store.
pub const URL_OCTETS: usize = 2048;
/// Octets of an issuer's trust roots, as PEM.
pub const TRUST_ROOTS_OCTETS: usize = 64 * 1024;
/// Certificates among an issuer's trust roots.
pub const TRUST_ROOTS: usize = 16;
/// Contacts of an ACME account.
pub const CONTACTS: usize = 10;
/// Octets of the name that a CA gives an external account.
pub const EAB_KID_OCTETS: usize = 255;
/// Octets of the key of an external account, at least: HS256 takes no shorter one (RFC 7518, 3.2).
pub const EAB_KEY_OCTETS_MIN: usize = 32;
/// Octets of the key of an external account, at most: CAs hand out 32 or 64.
pub const EAB_KEY_OCTETS: usize = 1024;
/// Octets of a certificate chain that we accept from a CA, as PEM.
pub const CHAIN_OCTETS: usize = 256 * 1024;

/// Octets of an audit leaf: what is written once must fit a log line of any SIEM.
pub const AUDIT_LEAF_OCTETS: usize = 16 * 1024;
/// Names listed in an audit leaf; the rest is covered by the hash that stands beside them.
pub const AUDIT_NAMES: usize = 20;

/// Items of one page, unless asked otherwise.
pub const PAGE_ITEMS_DEFAULT: u32 = 50;
/// Items of one page at most.
pub const PAGE_ITEMS_MAX: u32 = 500;
/// Octets of a cursor.
pub const CURSOR_OCTETS: usize = 512;
/// Octets of an idempotency key.
pub const IDEMPOTENCY_KEY_OCTETS: usize = 255;

/// How long a token is valid unless asked otherwise.
pub const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// How long a token may be valid.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(365 * 86_400);
/// How long the first administrator's token is valid: long enough to make a better one.
pub const TOKEN_LIFE_BOOTSTRAP: Duration = Duration::from_secs(3_600);

/// How long an unwrapped project key stays in memory.
pub const PROJECT_KEY_CACHE: Duration = Duration::from_secs(10 * 60);
/// Project keys kept in memory at most; beyond it the cache starts anew.
pub const PROJECT_KEY_CACHE_ENTRIES: usize = 10_000;

/// The first wait after a transient fault of the CA; it doubles from there.
pub const TRANSIENT_WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two tries of a step that fails transiently.
pub const TRANSIENT_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a step may fail transiently before the attempt counts as failed.
pub const TRANSIENT_SPAN_MAX: Duration = Duration::from_secs(3_600);
/// No wait between two attempts is longer than this part of the life that the version in use has left.
pub const LIFE_LEFT_DIVISOR: u32 = 10;
/// The shortest wait between two attempts, however little life is left: a CA that refuses at once is not asked in a circle.
pub const ATTEMPT_WAIT_MIN: Duration = Duration::from_secs(15);
/// The first wait in place between two looks at an order that the CA is still busy with; it doubles from there.
pub const INLINE_WAIT_FIRST: Duration = Duration::from_millis(10);
/// How long one claim may wait in place for a CA that is busy, in all: a CA that issues in a moment is waited for, and any
/// other costs no more of a worker's places than this.
pub const INLINE_WAIT: Duration = Duration::from_millis(300);
/// The first wait for a CA that is busy for longer, for which the job goes back to the queue; it doubles from there.
pub const POLL_WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two looks at an order, where the CA does not say otherwise.
pub const POLL_WAIT_MAX: Duration = Duration::from_secs(60);
/// The `Retry-After` that is obeyed of a CA which is busy with an order, however young that is, unless the order or the version in use
/// ends soon.
pub const ASKED_WAIT_MIN: Duration = Duration::from_secs(3_600);
/// A wait of at least this long is skipped when somebody asked for the job while it ran. After a shorter one the same attempt goes on.
pub const WISH_WAIT: Duration = Duration::from_secs(5);
/// The wait before a fact that the database did not take is written again.
pub const PERSIST_WAIT: Duration = Duration::from_millis(100);
/// How long after its last use the answer to an HTTP-01 challenge is kept: a CA may ask again from elsewhere.
pub const CHALLENGE_KEPT: Duration = Duration::from_secs(10 * 60);
/// How long the answer to a challenge is kept when the CA does not say when the order expires.
pub const CHALLENGE_LIFE_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// How long the answer to a challenge is kept at most, whatever the CA says about its order: no CA of ours validates that
/// long after.
pub const CHALLENGE_KEPT_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The longest wait that a CA's Retry-After may impose: beyond it we look again anyway.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The longest wait that a CA's rate limit may impose: CAs count by the week.
pub const RATE_LIMIT_MAX: Duration = Duration::from_secs(7 * 86_400);
/// How long an order that may have been finalized is waited for at least: CAs may be slow.
pub const OVERDUE_MIN: Duration = Duration::from_secs(600);
/// How long where no version is in use yet.
pub const OVERDUE_FIRST: Duration = Duration::from_secs(3_600);
/// And this part of the life that is left of the version in use, where that is longer.
pub const OVERDUE_LIFE_DIVISOR: u32 = 10;
/// How many times longer such an order is waited for where the CA does not say what became of it: half of the life left.
pub const UNHEARD_FACTOR: u32 = 5;
/// Steps of one run of an order: several times as many as any needs.
pub const RUN_STEPS: u32 = 100;
/// Faults of a CA that says each time that an overdue order can be finalized, or its certificate fetched, before another one is
/// placed: more than pass by chance.
pub const STUCK_FAULTS: u32 = 20;
/// How often it is noted for the audit that the CA gave something else than the certificate that was asked for.
pub const MIX_UPS_NOTED: u32 = 3;
/// Passing faults of an order that was set aside, after which it is not asked for any more before a younger one is finalized:
/// some minutes of them.
pub const ELDER_FAULTS: u32 = 8;
/// The longest `Retry-After` that is obeyed of an order that was set aside, before a younger one is finalized.
pub const ELDER_WAIT: Duration = Duration::from_secs(600);
/// Orders of one certificate that are watched beside its attempt: a CA that is stuck with them all gets no more.
pub const WATCHED_ORDERS: usize = 2;
/// How long past an order's expiry one that may have been finalized is still watched: this host's clock may be ahead of
/// the CA's, and an order that is dropped too soon is bought twice.
pub const READY_EXPIRY_MARGIN: Duration = Duration::from_secs(3_600);
/// How long an order is believed to live, whatever its CA says: some public CAs say 90 days.
pub const ORDER_LIFE_MAX: Duration = Duration::from_secs(100 * 86_400);
/// How long an order that may have been finalized is watched when the CA does not say when it expires: as long as most
/// public CAs keep one.
pub const ORDER_LIFE_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
/// The time-out of one request to a CA, with the nonce that is fetched for it and its repetitions after badNonce.
pub const CA_REQUEST: Duration = Duration::from_secs(15);
/// How long one act on an order may take, on top of what its names may: the few requests that are made once.
pub const ACT: Duration = Duration::from_secs(30);
/// How long one act on an order may take for each of its names: two requests, at a CA that is slow.
pub const ACT_PER_NAME: Duration = Duration::from_secs(3);
/// How often an act that is under way looks whether its lease holds: well within the margin of a fifth that workers give
/// away of the shortest lease, 5 s, so that no act outlives its lease.
pub const MANDATE_LOOK: Duration = Duration::from_millis(250);

/// When a certificate whose job needs a person is tried again all the same: a renewal is never given up.
pub const DEAD_WAIT: Duration = Duration::from_secs(86_400);
/// When a look is planned again whose job needs a person: one that kills its workers does so once a day at most.
pub const DEAD_LOOK_WAIT: Duration = Duration::from_secs(86_400);
/// Workers in a row that may die while they run a job before it is run alone among those of its kind.
pub const LOST_ALONE: u32 = 3;
/// Workers in a row that may die while they run a job before it is taken for the cause.
pub const LOST_CLAIMS: u32 = 20;
/// Partitions of the job queue: claimers that look at different ones do not meet.
pub const JOB_PARTITIONS: u16 = 64;
/// Jobs claimed at once: more only adds latency.
pub const CLAIM_BATCH: usize = 100;
/// Jobs that are counted to tell how deep the queue is; beyond it the depth is an estimate, since counting them all takes
/// half a second with a million of them.
pub const QUEUE_COUNT: u64 = 10_000;
/// Jobs of the one partition that are counted for that estimate: beyond some 6 million jobs it grows no more.
pub const QUEUE_COUNT_IN_ONE: u64 = 100_000;
/// Partitions of the queue that drift scans have to themselves: whoever claims work for a CA does not see them.
pub const DRIFT_PARTITIONS: u16 = 8;
/// Drift scans that one worker runs at once, beside its work for CAs: half of them of one project, as of all that stands apart.
pub const DRIFT_SCANS: usize = 8;
/// Names that one drift scan looks at at once.
pub const DRIFT_LOOKS: usize = 16;
/// How long a look at one name may take: its addresses are resolved, connected to and shaken hands with.
pub const DRIFT_LOOK: Duration = Duration::from_secs(5);
/// Addresses of one name that are looked at: behind more of them stands the same thing.
pub const DRIFT_ADDRESSES: usize = 4;
/// The port that is looked at unless asked otherwise.
pub const DRIFT_PORT_DEFAULT: u16 = 443;
/// From one drift scan of a certificate to the next, unless asked otherwise.
pub const DRIFT_INTERVAL_DEFAULT: Duration = Duration::from_secs(6 * 3_600);
/// The shortest time from one drift scan to the next: more often is an attack on somebody's server.
pub const DRIFT_INTERVAL_MIN: Duration = Duration::from_secs(5 * 60);
/// The longest: less often finds nothing in the life of a certificate.
pub const DRIFT_INTERVAL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The shortest time from one drift scan of a certificate to the next, however often somebody asks: whoever mends a server
/// looks again soon, and nobody gets a tool to knock at doors with.
pub const DRIFT_SCAN_AGAIN: Duration = Duration::from_secs(5);
/// How long after a new version is stored a server is given to load it, before it is looked at.
pub const DRIFT_GRACE: Duration = Duration::from_secs(60);
/// The time that each certificate adds over which the first scans of a project are spread: fifty begin in a second.
pub const DRIFT_SPREAD: Duration = Duration::from_millis(20);
/// How long after a project's settings changed certificates are looked for that were made under the old ones: longer than
/// any request may take.
pub const DRIFT_SETTLING: Duration = Duration::from_secs(60);
/// Certificates of one state of drift that are counted for the metric; beyond it the count ends.
pub const DRIFT_COUNT: u64 = 100_000;
/// How long a count of drift is shown.
pub const DRIFT_COUNT_KEPT: Duration = Duration::from_secs(150);
/// Octets of what a CA calls a certificate in its renewal information: 20 of each part are usual.
pub const ARI_ID_OCTETS: usize = 128;
/// The shortest wait between two looks at a certificate's renewal information, whatever the CA says (RFC 9773, 4.3.2).
pub const ARI_POLL_MIN: Duration = Duration::from_secs(60);
/// The wait where the CA does not say how long, in a life that is not short.
pub const ARI_POLL_DEFAULT: Duration = Duration::from_secs(6 * 3_600);
/// The longest wait, before its jitter of a tenth: a CA that revokes must be heard in about a day.
pub const ARI_POLL_MAX: Duration = Duration::from_secs(86_400);
/// The wait after a look that failed in passing.
pub const ARI_AGAIN: Duration = Duration::from_secs(15 * 60);
/// The partition of the queue that looks at renewal information have to themselves: one is enough, since a job is for all
/// certificates of an issuer that are due.
pub const ARI_PARTITION: u16 = JOB_PARTITIONS + DRIFT_PARTITIONS;
/// The partition of the queue that revocations have to themselves: a key that somebody else has waits behind no renewal.
pub const REVOCATION_PARTITION: u16 = ARI_PARTITION + 1;
/// Revocations that one worker runs at once.
pub const REVOCATIONS: usize = 4;
/// All partitions of the queue.
pub const PARTITIONS: u16 = REVOCATION_PARTITION + 1;
/// Issuers at whose renewal information one worker looks at once.
pub const ARI_ISSUERS: usize = 4;
/// Looks that one job makes at once.
pub const ARI_LOOKS: usize = 4;
/// Certificates that one job reads, looks at, and writes down at once.
pub const ARI_PAGE: u32 = 50;
/// Pages of one run of a job: with more the job is queued again, so that another issuer has its turn.
pub const ARI_PAGES: u32 = 20;
/// Looks that fail in passing one after the other before the rest of a run is left for later: the fault is the CA's.
pub const ARI_FAULTS: u32 = 3;
/// Faults of a CA itself over an order that names its predecessor, before it is placed without: the CA may stumble over that.
pub const REPLACES_FAULTS: u32 = 3;
/// Failed attempts in a row, the last by a protocol error of the CA's, after which an order is placed as one that replaces nothing.
pub const REPLACES_FAILURES: u32 = 2;
/// Networks that an administrator may list as allowed.
pub const OUTBOUND_NETWORKS: usize = 64;
/// How long a sample of the queue is told: whoever scales by an old one scales by what is not there any more.
pub const QUEUE_SAMPLE_KEPT: Duration = Duration::from_secs(30);
/// Certificates of a project that are listed, of each kind, as those to look at first.
pub const ATTENTION: i64 = 10;

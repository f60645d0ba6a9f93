// SPDX-License-Identifier: Apache-2.0
//! What one seed is about: how bad the world is, and for how long.

use std::time::Duration;

use super::luck::Luck;

/// Faults come for so long at most; from then on the world is well.
const STORM: Duration = Duration::from_secs(6 * 3_600);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// How far a worker's calendar is wrong at most: within what the watch on an order allows for.
pub(super) const SKEW_MAX: Duration = Duration::from_secs(1_800);

/// A guard that is taken away, to see that the simulation misses it. The watch on orders that may still be issued is
/// the code's own to lose (`cap_core::fault`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Writes are made whoever has the record by now.
    NoFence,
    /// The key is stored with the certificate, and not before the order is placed.
    LateKey,
}

/// The parameters of one seed. Numbers without a unit are faults in a thousand.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) mutant: Option<Mutant>,
    pub(super) storm: Duration,
    pub(super) lease: Duration,
    /// How far each worker's clock is from the right time, in seconds.
    pub(super) skew_s: Vec<i64>,
    /// Certificates for the same names, each with as many versions to be issued.
    pub(super) certificates: usize,
    pub(super) versions: i64,
    /// Crashes and pauses in all, and how likely one is before any poll.
    pub(super) blows: u32,
    pub(super) crash: usize,
    pub(super) pause: usize,
    /// The database: a write is lost, its answer is lost, it is carried out long after.
    pub(super) write_lost: usize,
    pub(super) ack_lost: usize,
    pub(super) write_late: usize,
    pub(super) ca: CaPlan,
}

/// How the CA is.
#[derive(Debug, Clone, Copy)]
pub(super) struct CaPlan {
    /// It answers newOrder with the order that is open for the same names.
    pub(super) reuses_orders: bool,
    /// Authorizations that are valid from the beginning.
    pub(super) authorized: usize,
    pub(super) life: Duration,
    /// It says when an order expires.
    pub(super) tells_expiry: bool,
    /// It forgets orders that are over.
    pub(super) forgets: bool,
    /// It offers renewal information, and so takes it well or ill which certificate an order replaces.
    pub(super) takes_replaces: bool,
    /// It refuses an order that names what it replaces, whatever that is.
    pub(super) refuses_replaces: usize,
    /// It answers newOrder with the URL, and with nothing else that can be read.
    pub(super) mumbles: usize,
    /// It answers finalize, and who looks just after it, as if nothing had been sent: a replica that lags.
    pub(super) lags: usize,
    /// It says in good answers when it wants to be asked again.
    pub(super) asks_for_time: usize,
    pub(super) validating: Duration,
    pub(super) processing: Duration,
    pub(super) request_lost: usize,
    pub(super) answer_lost: usize,
    pub(super) stalls: usize,
    pub(super) transient: usize,
    pub(super) later: usize,
    /// It refuses to say anything of an order.
    pub(super) mute: usize,
    /// It takes a challenge, and never looks at it.
    pub(super) leaves_open: usize,
    pub(super) refuses_order: usize,
    pub(super) needs_person: usize,
    pub(super) fails_validation: usize,
    pub(super) refuses_finalize: usize,
    /// It fails after it took the signing request.
    pub(super) fails_late: usize,
    pub(super) wrong_certificate: usize,
    /// It answers nothing but 503 from so long after the first finalize, for so long.
    pub(super) outage: Option<(Duration, Duration)>,
    /// It refuses the names for good.
    pub(super) holds_a_grudge: bool,
}

/// So many seconds ahead, or behind.
fn skew_s(luck: &mut Luck) -> i64 {
    let most = i64::try_from(SKEW_MAX.as_secs()).unwrap_or(0);
    i64::try_from(luck.between(Duration::ZERO, SKEW_MAX * 2).as_secs()).unwrap_or(0) - most
}

impl Plan {
    pub(super) fn new(luck: &mut Luck, mutant: Option<Mutant>) -> Self {
        if luck.permille(80) { Self::calm(luck, mutant) } else { Self::storm(luck, mutant) }
    }

    /// A world without faults: what an issuance costs is counted here.
    fn calm(luck: &mut Luck, mutant: Option<Mutant>) -> Self {
        let workers = 1 + luck.below(3);
        Self {
            mutant,
            storm: Duration::ZERO,
            lease: MINUTE,
            skew_s: vec![0; workers],
            certificates: 1,
            versions: 1 + i64::from(luck.permille(500)),
            blows: 0,
            crash: 0,
            pause: 0,
            write_lost: 0,
            ack_lost: 0,
            write_late: 0,
            ca: CaPlan::calm(luck),
        }
    }

    fn storm(luck: &mut Luck, mutant: Option<Mutant>) -> Self {
        let workers = 1 + luck.below(3);
        let is_skewed = luck.permille(300);
        let skew_s = (0..workers).map(|_| if is_skewed { skew_s(luck) } else { 0 }).collect();
        let often = [0, 0, 5, 20, 60];
        Self {
            storm: luck.between(MINUTE, STORM),
            lease: luck.pick(&[Duration::from_secs(5), Duration::from_secs(5), MINUTE]),
            skew_s,
            certificates: 1 + usize::from(luck.permille(200)),
            versions: 1 + i64::from(luck.permille(333)),
            blows: u32::try_from(luck.below(7)).unwrap_or(0),
            crash: luck.pick(&often),
            pause: luck.pick(&often),
            write_lost: luck.pick(&often),
            ack_lost: luck.pick(&often),
            write_late: luck.pick(&[0, 0, 5, 20]),
            ca: CaPlan::storm(luck),
            ..Self::calm(luck, mutant)
        }
    }

    /// A world in which nothing is dropped that was said or written, and everybody lives.
    pub(super) fn is_calm(&self) -> bool {
        self.storm == Duration::ZERO
    }
}

impl CaPlan {
    fn calm(luck: &mut Luck) -> Self {
        // Quick enough to be waited for in place: what is counted here is an issuance that nothing delays.
        let moment = Duration::from_millis(100);
        Self {
            reuses_orders: luck.permille(500),
            authorized: luck.pick(&[0, 500]),
            life: 8 * HOUR,
            tells_expiry: true,
            forgets: false,
            takes_replaces: luck.permille(500),
            refuses_replaces: 0,
            mumbles: 0,
            lags: 0,
            asks_for_time: 0,
            validating: luck.between(Duration::ZERO, moment),
            processing: luck.between(Duration::ZERO, moment),
            request_lost: 0,
            answer_lost: 0,
            stalls: 0,
            transient: 0,
            later: 0,
            mute: 0,
            leaves_open: 0,
            refuses_order: 0,
            needs_person: 0,
            fails_validation: 0,
            refuses_finalize: 0,
            fails_late: 0,
            wrong_certificate: 0,
            outage: None,
            holds_a_grudge: false,
        }
    }

    fn storm(luck: &mut Luck) -> Self {
        let (often, seldom) = ([0, 0, 10, 40, 120], [0, 0, 0, 30, 150]);
        // A CA that is busy for long is asked often: a few seeds of those are enough.
        let processing = match luck.below(1_000) {
            0..800 => luck.between(Duration::ZERO, Duration::from_secs(2)),
            800..990 => luck.between(Duration::ZERO, Duration::from_secs(12)),
            990..999 => luck.between(Duration::ZERO, MINUTE * 2),
            _ => luck.between(MINUTE, HOUR * 2),
        };
        let after = luck.between(Duration::ZERO, Duration::from_secs(5));
        let outage = (after, luck.between(MINUTE, 4 * HOUR));
        // Such an order takes hours: a few seeds are enough.
        let leaves_open = if luck.permille(20) { 200 } else { 0 };
        Self {
            // What replaces a version that lives for long is waited for until it expires.
            life: if leaves_open > 0 { 8 * HOUR } else { luck.pick(&[HOUR, 8 * HOUR, 7 * 24 * HOUR]) },
            tells_expiry: !luck.permille(100),
            forgets: luck.permille(300),
            refuses_replaces: luck.pick(&seldom),
            mumbles: luck.pick(&seldom),
            lags: luck.pick(&seldom),
            asks_for_time: luck.pick(&seldom),
            validating: luck.between(Duration::ZERO, Duration::from_secs(4)),
            processing,
            request_lost: luck.pick(&often),
            answer_lost: luck.pick(&often),
            // Each look at the lease during a stall is a poll: a few of them say as much as many.
            stalls: luck.pick(&[0, 0, 0, 10, 40]),
            transient: luck.pick(&often),
            later: luck.pick(&seldom),
            mute: luck.pick(&seldom),
            leaves_open,
            refuses_order: luck.pick(&seldom),
            needs_person: luck.pick(&[0, 0, 0, 0, 0, 0, 0, 30]),
            fails_validation: luck.pick(&seldom),
            refuses_finalize: luck.pick(&seldom),
            fails_late: luck.pick(&seldom),
            wrong_certificate: luck.pick(&seldom),
            outage: luck.permille(40).then_some(outage),
            holds_a_grudge: luck.permille(20),
            ..Self::calm(luck)
        }
    }
}

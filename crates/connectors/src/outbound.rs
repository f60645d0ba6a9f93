// SPDX-License-Identifier: Apache-2.0
//! Addresses of hosts that somebody else named: each is judged before it is connected to, and what was judged is what is
//! connected to, so that a name which answers differently the second time gains nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use cap_core::outbound::{Outbound, Refused};
use tokio::sync::Semaphore;

/// Lookups at once. One that nobody waits for any more holds its place until the system gives it up: a resolver that does
/// not answer must not take all threads, and what one project's scans look up meanwhile, 64 names each 5 s, must not take all places.
const LOOKUPS: usize = 256;

/// Asks for the addresses of a name.
#[async_trait]
pub(crate) trait Resolve: std::fmt::Debug + Send + Sync {
    /// Every address that it has.
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct SystemResolver(Arc<Semaphore>);

/// Resolves names and judges their addresses.
#[derive(Debug)]
pub(crate) struct Filter {
    rule: Outbound,
    resolver: Box<dyn Resolve>,
}

impl SystemResolver {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS)))
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let place = self.0.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        let host = host.to_owned();
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            drop(place);
            found.map(|found| found.map(|address| address.ip()).collect())
        });
        lookup.await.map_err(std::io::Error::other)?
    }
}

impl Filter {
    pub(crate) fn new(rule: Outbound, resolver: Box<dyn Resolve>) -> Self {
        Self { rule, resolver }
    }

    /// The addresses of a host that may be connected to, each once; or in a sentence why there is none.
    ///
    /// What a refused address is stays out of the sentence: who may name a host learns nothing about our network.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self
                .resolver
                .resolve(host)
                .await
                .map_err(|error| format!("the DNS has no address for {host}: {error}"))?,
        };
        let (mut allowed, mut listable) = (Vec::new(), None);
        for address in &found {
            match self.rule.judge(*address) {
                Ok(judged) => {
                    let judged = SocketAddr::new(judged, port);
                    if !allowed.contains(&judged) {
                        allowed.push(judged);
                    }
                }
                Err(refused) => {
                    tracing::debug!(host, %address, ?refused, "this address is not connected to");
                    if let Refused::Unlisted(what) = refused {
                        listable = Some(what);
                    }
                }
            }
        }
        match (allowed.is_empty(), listable, found.is_empty()) {
            (false, _, _) => Ok(allowed),
            (true, _, true) => Err(format!("the DNS has no address for {host}")),
            (true, Some(what), false) => Err(format!(
                "{host} leads to an address that is {what}, and this system does not connect there; an administrator may \
                 list its network in CAP_OUTBOUND_PRIVATE of the workers"
            )),
            (true, None, false) => {
                Err(format!("{host} leads to an address that this system never connects to"))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Knows one name's addresses.
    #[derive(Debug)]
    pub(crate) struct Told(pub(crate) Vec<IpAddr>);

    #[async_trait]
    impl Resolve for Told {
        async fn resolve(&self, _host: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    fn filter(told: &[&str], listed: &[&str]) -> Filter {
        let told = told.iter().map(|address| address.parse().unwrap()).collect();
        let listed = listed.iter().map(|network| network.parse().unwrap()).collect();
        Filter::new(Outbound::allowing(listed), Box::new(Told(told)))
    }

    #[tokio::test]
    async fn only_what_is_allowed_of_a_names_addresses_is_answered_and_once() {
        let all = ["169.254.169.254", "9.9.9.9", "127.0.0.1", "::ffff:9.9.9.9", "fd00:ec2::254"];
        let found = filter(&all, &[]).addresses("a.example.test", 443).await.unwrap();
        assert_eq!(found, ["9.9.9.9:443".parse().unwrap()]);
        let found = filter(&all, &["127.0.0.0/8"]).addresses("a.example.test", 443).await.unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do_and_not_where_the_name_leads() {
        let refused = filter(&["10.1.2.3"], &[]).addresses("a.example.test", 443).await.unwrap_err();
        assert!(refused.contains("CAP_OUTBOUND_PRIVATE") && !refused.contains("10.1.2.3"), "{refused}");
        let refused = filter(&["169.254.169.254"], &["0.0.0.0/0"]).addresses("a.example.test", 443).await;
        let refused = refused.unwrap_err();
        assert!(refused.contains("never") && !refused.contains("169"), "{refused}");
        let refused = filter(&[], &[]).addresses("a.example.test", 443).await.unwrap_err();
        assert!(refused.contains("no address"), "{refused}");
    }

    #[tokio::test]
    async fn an_address_is_judged_like_a_name() {
        assert!(filter(&[], &[]).addresses("127.0.0.1", 443).await.is_err());
        assert!(filter(&[], &[]).addresses("::1", 443).await.is_err());
        assert!(filter(&[], &["127.0.0.1/32"]).addresses("127.0.0.1", 443).await.is_ok());
    }

    #[tokio::test]
    async fn the_systems_resolver_finds_this_host() {
        let found = SystemResolver::new().resolve("localhost").await.unwrap();
        assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    }
}

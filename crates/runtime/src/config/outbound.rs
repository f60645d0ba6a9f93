// SPDX-License-Identifier: Apache-2.0
//! Where a process may connect to that others name.

use cap_core::limits::OUTBOUND_NETWORKS;
use cap_core::outbound::{BadNetwork, Network, Outbound};

use super::{Config, Group};

/// Where a process may connect to that others name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundConfig {
    /// The rule.
    pub rule: Outbound,
}

impl Group for OutboundConfig {
    fn read(config: &mut Config) -> Option<Self> {
        const NAME: &str = "CAP_OUTBOUND_PRIVATE";
        if !config.is_given(NAME) {
            return Some(Self { rule: Outbound::default() });
        }
        let remedy = "write networks with commas between them, like 10.0.0.0/8,fd00::/8";
        let networks = config.parse(NAME, remedy, networks)?;
        Some(Self { rule: Outbound::allowing(networks) })
    }
}

fn networks(text: &str) -> Result<Vec<Network>, String> {
    let read = |part: &str| {
        part.trim().parse().map_err(|bad: BadNetwork| format!("`{}` is wrong: {bad}", part.trim()))
    };
    let networks: Vec<Network> = text.split(',').map(read).collect::<Result<_, _>>()?;
    if networks.len() > OUTBOUND_NETWORKS {
        return Err(format!("there are {} networks; at most {OUTBOUND_NETWORKS} are read", networks.len()));
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_with_or_without_spaces_and_bad_ones_are_named() {
        assert_eq!(networks("10.0.0.0/8, fd00::/8").unwrap().len(), 2);
        for (bad, named) in
            [("", "``"), ("10.0.0.0/8,", "``"), ("10.1.0.0/8", "10.0.0.0/8"), ("all", "`all`")]
        {
            let why = networks(bad).unwrap_err();
            assert!(why.contains(named), "{bad}: {why}");
        }
        assert!(networks(&["10.0.0.0/8"; OUTBOUND_NETWORKS + 1].join(",")).is_err());
    }
}

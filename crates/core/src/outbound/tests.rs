// SPDX-License-Identifier: Apache-2.0
//! What is refused stays refused in every clothing that an address can wear.

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Everything that can be listed.
fn generous() -> Outbound {
    Outbound::allowing(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()])
}

/// The same IPv4 address as IPv6 has it: mapped, translated, tunnelled.
fn clothed(v4: Ipv4Addr) -> [IpAddr; 3] {
    let [a, b, c, d] = v4.octets();
    let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low).into(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into(),
    ]
}

#[test]
fn metadata_link_local_multicast_and_unspecified_are_refused_whatever_is_listed() {
    for never in [
        "169.254.169.254",
        "169.254.0.1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "fe80::1",
        "ff02::1",
        "2001::1",
        "4000::1",
    ] {
        let judged = generous().judge(address(never));
        assert!(matches!(judged, Err(Refused::Never(_))), "{never}: {judged:?}");
    }
}

#[test]
fn what_is_private_is_refused_unless_it_is_listed() {
    for (private, network) in [
        ("10.1.2.3", "10.0.0.0/8"),
        ("172.31.255.255", "172.16.0.0/12"),
        ("192.168.0.1", "192.168.0.0/24"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("100.64.0.1", "100.64.0.0/10"),
        ("198.19.0.1", "198.18.0.0/15"),
        ("::1", "::1/128"),
        ("fd12:3456::1", "fd12:3456::/32"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("64:ff9b::7f00:1", "127.0.0.1/32"),
    ] {
        let none = Outbound::default().judge(address(private));
        assert!(matches!(none, Err(Refused::Unlisted(_))), "{private}: {none:?}");
        let other = Outbound::allowing(vec!["192.168.77.0/24".parse().unwrap()]);
        assert!(other.judge(address(private)).is_err(), "{private}");
        let listed = Outbound::allowing(vec![network.parse().unwrap()]);
        assert_eq!(listed.judge(address(private)), Ok(address(private).to_canonical()), "{private}");
    }
}

#[test]
fn public_addresses_are_allowed() {
    for public in ["9.9.9.9", "172.32.0.1", "192.0.1.1", "100.128.0.1", "2606:4700::1111", "2001:4860::8888"]
    {
        assert_eq!(Outbound::default().judge(address(public)), Ok(address(public)));
    }
    let mapped = Outbound::default().judge(address("::ffff:9.9.9.9"));
    assert_eq!(mapped, Ok(address("9.9.9.9")), "the address itself is connected to");
}

#[test]
fn networks_are_read_as_they_are_written_and_doubtful_ones_are_not() {
    for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "fd00::/8", "::/0", "::1/128"] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
    for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/+8", "10.0.0.0/8 "] {
        assert_eq!(text.parse::<Network>(), Err(BadNetwork::Form), "{text:?}");
    }
    let doubtful = "10.1.2.3/8".parse::<Network>();
    assert_eq!(doubtful, Err(BadNetwork::Bits("10.0.0.0/8".parse().unwrap())));
}

proptest! {
    #[test]
    fn an_address_is_judged_alike_in_all_its_clothes(octets: [u8; 4], listed in any::<bool>()) {
        let plain = Ipv4Addr::from(octets);
        let rule = if listed { generous() } else { Outbound::default() };
        let judged = rule.judge(plain.into()).map(drop);
        for clothed in clothed(plain) {
            prop_assert_eq!(rule.judge(clothed).map(drop), judged, "{} as {}", plain, clothed);
        }
    }

    #[test]
    fn nothing_in_a_network_that_is_never_reached_gets_through(bits: u128, which in 0..NEVER.len()) {
        let (network, _) = NEVER[which];
        let inside = match network.address {
            IpAddr::V4(v4) => {
                let host = u32::try_from(bits & u128::from(u32::MAX >> network.prefix.min(31))).unwrap();
                let host = if network.prefix == 32 { 0 } else { host };
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) | host))
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) | (bits >> network.prefix))),
        };
        prop_assert!(network.contains(inside));
        prop_assert!(generous().judge(inside).is_err(), "{}", inside);
    }

    #[test]
    fn a_network_has_what_begins_with_its_bits_and_nothing_else(octets: [u8; 4], other: [u8; 4], prefix in 0_u8..=32) {
        let network = Network::masked(Ipv4Addr::from(octets).into(), prefix);
        let shift = |octets| u64::from(u32::from_be_bytes(octets)) >> (32 - u32::from(prefix));
        let same = shift(octets) == shift(other);
        prop_assert_eq!(network.contains(Ipv4Addr::from(other).into()), same);
    }
}

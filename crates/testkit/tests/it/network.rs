// SPDX-License-Identifier: Apache-2.0
//! Hosts that are cut from each other, in both directions or in one, and healed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cap_testkit::network::{Forward, Host, Network};

const PORT: u16 = 4_000;
/// Between namespaces of one machine a packet takes microseconds; one that was dropped never comes.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
const NEVER: Duration = Duration::from_millis(300);

/// Whether a packet from `from` arrives at `to`.
fn is_heard(from: &Host, to: &Host, limit: Duration) -> bool {
    let bind = |host: &Host, port| {
        let address = host.address();
        host.within(|| Ok(UdpSocket::bind((address, port))?)).unwrap()
    };
    let (sender, receiver) = (bind(from, 0), bind(to, PORT));
    receiver.set_read_timeout(Some(limit)).unwrap();
    sender.send_to(b"hello", (to.address(), PORT)).unwrap();
    let mut buffer = [0; 8];
    receiver.recv_from(&mut buffer).is_ok()
}

#[test]
fn a_cut_is_silent_and_in_the_direction_that_was_asked_for() {
    let network = Network::create().unwrap();
    let (a, b, c) = (network.host("a").unwrap(), network.host("b").unwrap(), network.host("c").unwrap());
    assert!(is_heard(&a, &b, HEARD_WITHIN) && is_heard(&b, &a, HEARD_WITHIN));

    network.cut_one_way([(&*a, &*b)]).unwrap();
    assert!(!is_heard(&a, &b, NEVER));
    assert!(
        is_heard(&b, &a, HEARD_WITHIN) && is_heard(&a, &c, HEARD_WITHIN) && is_heard(&c, &b, HEARD_WITHIN)
    );

    network.cut([(&*a, &*b)]).unwrap();
    assert!(!is_heard(&a, &b, NEVER) && !is_heard(&b, &a, NEVER));

    network.heal().unwrap();
    assert!(is_heard(&a, &b, HEARD_WITHIN) && is_heard(&b, &a, HEARD_WITHIN));
}

#[test]
fn a_connection_that_is_open_stalls_and_goes_on() {
    let network = Network::create().unwrap();
    let (a, b) = (network.host("a").unwrap(), network.host("b").unwrap());
    let address = SocketAddr::from((b.address(), PORT));
    let listener = b.within(|| Ok(TcpListener::bind(address)?)).unwrap();
    let mut near = a.within(|| Ok(TcpStream::connect(address)?)).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    network.cut_one_way([(&*a, &*b)]).unwrap();
    near.write_all(b"x").unwrap();
    far.set_read_timeout(Some(NEVER)).unwrap();
    far.read_exact(&mut [0; 1]).unwrap_err();
    network.heal().unwrap();
    // The kernel sends it again by itself.
    far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut got = [0; 1];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"x");
}

#[test]
fn a_forward_leads_from_loopback_to_loopback_whatever_is_cut() {
    let network = Network::create().unwrap();
    let (desk, a) = (network.desk().clone(), network.host("a").unwrap());
    network.cut([(&*desk, &*a)]).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = a.within(|| Ok(TcpListener::bind(address)?)).unwrap();
    desk.run(|| async {
        let _forward = Forward::start(&desk, &a, address)?;
        let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<String> {
            let mut near = TcpStream::connect(address)?;
            let (mut far, _) = listener.accept()?;
            far.write_all(b"over")?;
            drop(far);
            let mut got = String::new();
            near.read_to_string(&mut got)?;
            Ok(got)
        });
        assert_eq!(asked.await??, "over");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_dropped_network_leaves_nothing_and_a_dead_owners_is_swept() {
    let ours = |network: &Network| {
        let name = network.desk().path();
        assert!(name.exists());
        name
    };
    let network = Network::create().unwrap();
    let gone = ours(&network);
    drop(network);
    assert!(!gone.exists());
    // A process that is gone: our own pid with another start time.
    let me = cap_testkit::process::ProcessId::current().unwrap();
    let stale = format!("captest-{}-{}-0-desk", me.pid, me.started + 1);
    assert!(std::process::Command::new("ip").args(["netns", "add", &stale]).status().unwrap().success());
    let network = Network::create().unwrap();
    assert!(!std::path::Path::new("/run/netns").join(&stale).exists());
    assert!(ours(&network).exists());
}

//! Which addresses Sluice may connect to.
//!
//! A target's URL is the user's, but what its name resolves to is not always: metadata services, the Lambda
//! runtime API on loopback and other hosts' link-local addresses must stay out of reach, in every spelling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What an address is, as far as the rules care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Anybody's; fine with TLS.
    Public,
    /// RFC 1918, unique local: where clusters are. Fine, even without TLS.
    Private,
    /// This machine. Fine where `egress.allow` says so.
    Loopback,
    /// Metadata and link-local. Never.
    Forbidden,
    /// Multicast, documentation, carrier-grade NAT and the like. Fine where `egress.allow` says so.
    Special,
}

/// What a target may connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Networks otherwise refused that targets may be in.
    pub allow: Vec<IpNet>,
}

impl Rules {
    /// Whether a connection to `address` is allowed; `encrypted` is whether TLS protects it (or the target said
    /// `plaintext: true`). The error is a sentence that begins with `egress`.
    pub fn check(&self, address: IpAddr, encrypted: bool) -> Result<(), String> {
        let address = unwrap(address);
        let allowed = self.allow.iter().any(|network| network.contains(&address));
        match range(address) {
            Range::Forbidden => {
                Err(format!("egress: {address} is a metadata or link-local address, which is never allowed"))
            }
            Range::Loopback | Range::Special if !allowed => Err(format!(
                "egress: {address} is in a loopback or special range; name its network under egress.allow if that is meant"
            )),
            Range::Public | Range::Special if !encrypted => Err(format!(
                "egress: {address} is a public address, and nothing is encrypted; use https (tls for NATS), or say `plaintext: true`"
            )),
            _ => Ok(()),
        }
    }
}

/// The IPv4 address inside an IPv6 one that routes to it (mapped, compatible, NAT64, 6to4), else the address.
fn unwrap(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let inner = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => inner(12).into(),
        [0, 0, 0, 0, 0xffff, 0, ..] => inner(12).into(),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => inner(12).into(),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => inner(12).into(),
        [0x2002, ..] => inner(2).into(),
        _ => address,
    }
}

/// Classifies an address. IPv6 forms of IPv4 addresses should be unwrapped first, as [`Rules::check`] does.
pub fn range(address: IpAddr) -> Range {
    match address {
        IpAddr::V4(v4) => range_v4(v4),
        IpAddr::V6(v6) => range_v6(v6),
    }
}

fn range_v4(v4: Ipv4Addr) -> Range {
    match v4.octets() {
        // 169.254.169.254 and 169.254.170.2 are the metadata services of most clouds; 100.100.100.200 is
        // Alibaba's, 168.63.129.16 Azure's, 192.0.0.192 Oracle's.
        [169, 254, ..] | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Range::Forbidden,
        [127, ..] => Range::Loopback,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Range::Private,
        [0, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [192, 0, 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Range::Special,
        _ => Range::Public,
    }
}

/// The IPv4 addresses that an address of 64:ff9b:1::/48 may stand for. How long the prefix is, is up to who runs the
/// translator, and octet 8 is never part of the address. Source: RFC 8215; RFC 6052, 2.2 (read 2026-11).
fn translated(v6: Ipv6Addr) -> [Ipv4Addr; 4] {
    let octets = v6.octets();
    [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]].map(|at| at.map(|index| octets[index]).into())
}

fn range_v6(v6: Ipv6Addr) -> Range {
    match v6.segments() {
        [0x64, 0xff9b, 1, ..] if translated(v6).iter().any(|v4| range_v4(*v4) == Range::Forbidden) => Range::Forbidden,
        // fd00:ec2::254 and fd00:ec2::23 are the metadata services of EC2 and EKS, fd20:ce::254 Google's.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] | [0xfe80..=0xfebf, ..] => Range::Forbidden,
        [0, 0, 0, 0, 0, 0, 0, 1] => Range::Loopback,
        [0xfc00..=0xfdff, ..] => Range::Private,
        // Only 2000::/3 is global unicast; of it, 2001::/23 holds protocol assignments (Teredo among them) and
        // 2001:db8::/32 and 3fff::/20 are for documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..] => Range::Special,
        [0x2000..=0x3fff, ..] => Range::Public,
        _ => Range::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, allow: &[&str], encrypted: bool) -> Result<(), String> {
        let rules = Rules { allow: allow.iter().map(|network| network.parse().expect(network)).collect() };
        rules.check(address.parse().expect(address), encrypted)
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_spelling_even_if_allowed() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00:808:808",
            "64:ff9b:1:1a9:fe:a9fe:808:808",
            "64:ff9b:1:1:a9:fea9:fe08:808",
            "2002:a9fe:a9fe::1",
            "::ffff:0:169.254.169.254",
            "fd00:ec2::254",
            "fe80::1",
            "100.100.100.200",
        ] {
            let why = check(address, &["0.0.0.0/0", "::/0"], true).expect_err(address);
            assert!(why.starts_with("egress"), "{why}");
        }
    }

    #[test]
    fn loopback_and_special_ranges_need_to_be_allowed() {
        for address in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "100.64.0.1",
            "224.0.0.1",
            "203.0.113.9",
            "64:ff9b:1::808:808",
        ] {
            assert!(check(address, &[], true).is_err(), "{address}");
            assert!(check(address, &["0.0.0.0/0", "::/0"], true).is_ok(), "{address}");
        }
    }

    #[test]
    fn private_addresses_are_allowed_even_without_tls() {
        for address in ["10.1.2.3", "172.31.0.1", "192.168.0.1", "fd12::1"] {
            assert!(check(address, &[], false).is_ok(), "{address}");
        }
        assert!(check("172.32.0.1", &[], false).is_err());
    }

    #[test]
    fn public_addresses_need_tls() {
        for address in ["8.8.8.8", "2606:4700::1111"] {
            assert!(check(address, &[], true).is_ok(), "{address}");
            assert!(check(address, &[], false).is_err(), "{address}");
        }
    }
}

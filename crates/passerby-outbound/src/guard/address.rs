//! Which addresses are public: the rest of the registries of special-purpose addresses (RFC 6890) is not called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public: network, bits, what it is.
const CLOSED_V4: &[([u8; 4], u32, &str)] = &[
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "AS112"),
    ([192, 52, 193, 0], 24, "AMT"),
    ([192, 88, 99, 0], 24, "6to4 relays"),
    ([192, 168, 0, 0], 16, "private"),
    ([192, 175, 48, 0], 24, "AS112"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved and broadcast"),
];

/// IPv6 networks within 2000::/3 that are not public. All outside of it is closed.
const CLOSED_V6: &[([u16; 8], u32, &str)] = &[
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments, with Teredo, ORCHID and benchmarking"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
];

/// Where clouds tell their machines secrets; one of them looks public.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 250)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// The address that is meant: an IPv4 one where an IPv6 address only carries it (mapped, RFC 4291 section 2.5.5.2; or
/// of the well-known NAT64 network, RFC 6052).
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => address,
    }
}

/// Whether clouds tell secrets there. Takes what [`canonical`] gave.
pub(super) fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address)
}

/// Whether the address is one of the open network. Takes what [`canonical`] gave.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            !CLOSED_V4.iter().any(|&(network, length, _)| (bits ^ u32::from_be_bytes(network)) >> (32 - length) == 0)
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let network = |segments: [u16; 8]| Ipv6Addr::from(segments).to_bits();
            bits >> 125 == 1
                && !CLOSED_V6.iter().any(|&(segments, length, _)| (bits ^ network(segments)) >> (128 - length) == 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(text: &str) -> bool {
        let address = canonical(text.parse().unwrap());
        is_public(address) && !is_metadata(address)
    }

    #[test]
    fn edges_of_the_closed_networks() {
        for (inside, outside) in [
            (["0.0.0.0", "0.255.255.255"], ["1.0.0.0", "1.1.1.1"]),
            (["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            (["100.64.0.0", "100.127.255.255"], ["100.63.255.255", "100.128.0.0"]),
            (["127.0.0.0", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]),
            (["169.254.0.0", "169.254.255.255"], ["169.253.255.255", "169.255.0.0"]),
            (["172.16.0.0", "172.31.255.255"], ["172.15.255.255", "172.32.0.0"]),
            (["192.0.0.0", "192.0.2.255"], ["191.255.255.255", "192.0.3.0"]),
            (["192.88.99.0", "192.88.99.255"], ["192.88.98.255", "192.88.100.0"]),
            (["192.168.0.0", "192.168.255.255"], ["192.167.255.255", "192.169.0.0"]),
            (["198.18.0.0", "198.19.255.255"], ["198.17.255.255", "198.20.0.0"]),
            (["198.51.100.0", "203.0.113.255"], ["198.51.99.255", "203.0.114.0"]),
            (["224.0.0.0", "255.255.255.255"], ["223.255.255.255", "8.8.8.8"]),
        ] {
            for address in inside {
                assert!(!open(address), "{address}");
            }
            for address in outside {
                assert!(open(address), "{address}");
            }
        }
    }

    #[test]
    fn ipv6_is_open_in_global_unicast_alone() {
        for address in [
            "::",
            "::1",
            "::7f00:1",
            "::808:808",
            "64:ff9b:1::808:808",
            "100::1",
            "1fff::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:808:808::1",
            "2002:7f00:1::",
            "3fff::1",
            "3fff:fff:ffff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2620:4f:8000::1",
            "::ffff:10.0.0.1",
            "::ffff:0:7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
        ] {
            assert!(!open(address), "{address}");
        }
        for address in [
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(open(address), "{address}");
        }
    }

    proptest! {
        /// The table against what the standard library knows of IPv4, in three dresses.
        #[test]
        fn what_is_known_to_be_closed_is_closed(bits in prop_oneof![
            any::<u32>(), (0x7f00_0000_u32..0x8000_0000), (0x0a00_0000_u32..0x0b00_0000), (0xa9fe_0000_u32..0xa9ff_0000),
            (0xac10_0000_u32..0xac20_0000), (0xc0a8_0000_u32..0xc0a9_0000), (0xe000_0000_u32..=0xffff_ffff),
        ]) {
            let v4 = Ipv4Addr::from_bits(bits);
            let closed = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            let mapped = v4.to_ipv6_mapped();
            let [a, b, c, d] = v4.octets().map(u16::from);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
            for dressed in [IpAddr::V4(v4), IpAddr::V6(mapped), IpAddr::V6(nat64)] {
                prop_assert_eq!(canonical(dressed), IpAddr::V4(v4));
                prop_assert!(!(closed && is_public(canonical(dressed))), "{}", dressed);
            }
            // dresses that lead to an IPv4 address by way of somebody else's relay are never called
            let six = Ipv6Addr::new(0x2002, a << 8 | b, c << 8 | d, 0, 0, 0, 0, 1);
            let teredo = Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0, 0, !(a << 8 | b), !(c << 8 | d));
            let compatible = Ipv6Addr::new(0, 0, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
            for relayed in [six, teredo, compatible] {
                prop_assert!(!is_public(canonical(IpAddr::V6(relayed))), "{}", relayed);
            }
        }

        #[test]
        fn only_global_unicast_is_open(bits in any::<u128>()) {
            let v6 = Ipv6Addr::from_bits(bits);
            if let IpAddr::V6(address) = canonical(IpAddr::V6(v6)) && is_public(IpAddr::V6(address)) {
                prop_assert_eq!(bits >> 125, 1);
                prop_assert!(!v6.is_loopback() && !v6.is_multicast() && !v6.is_unique_local() && !v6.is_unicast_link_local());
            }
        }
    }
}

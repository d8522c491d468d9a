//! Every form that is documented, every way to get it wrong, and that nothing
//! that can be typed does worse than an error.

use std::net::{Ipv4Addr, Ipv6Addr};

use droptrace_types::{TUPLE_ICMP, TUPLE_PORTS, Tuple};

use super::*;

/// Knows `both.example` by an address of each family, `one.example` by one, and
/// no other name.
fn known_names(name: &str) -> io::Result<Vec<IpAddr>> {
    match name {
        "both.example" => Ok(vec![
            Ipv4Addr::new(10, 0, 0, 5).into(),
            "fd00::5".parse().expect("an address"),
        ]),
        "one.example" => Ok(vec![Ipv4Addr::new(10, 0, 0, 5).into()]),
        "none.example" => Ok(Vec::new()),
        _ => Err(io::Error::other("no such host")),
    }
}

/// The selection of a command line such as `--dst 10.0.0.5 --port 443`.
fn selection(line: &str) -> Selection {
    let mut selection = Selection::default();
    let mut words = line.split(' ');
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        let values = match flag {
            "--src" => &mut selection.src,
            "--dst" => &mut selection.dst,
            "--host" => &mut selection.host,
            "--port" => &mut selection.port,
            "--proto" => &mut selection.proto,
            "--iface" => &mut selection.iface,
            _ => panic!("no flag: {flag}"),
        };
        values.push(value.to_owned());
    }
    selection
}

fn filter(line: &str) -> Filter {
    resolve_with(&selection(line), &known_names).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn error(line: &str) -> String {
    match resolve_with(&selection(line), &known_names) {
        Ok(_) => panic!("{line}: taken"),
        Err(error) => error.to_string(),
    }
}

/// A TCP packet between two `address:port`s.
fn tcp(src: &str, dst: &str) -> Tuple {
    let (src, dst): (std::net::SocketAddr, std::net::SocketAddr) = (
        src.parse().expect("an endpoint"),
        dst.parse().expect("an endpoint"),
    );
    Tuple {
        src: bytes(src.ip()),
        dst: bytes(dst.ip()),
        src_port: src.port(),
        dst_port: dst.port(),
        family: if src.is_ipv4() { 4 } else { 6 },
        proto: 6,
        flags: TUPLE_PORTS,
        pad: 0,
    }
}

fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
    }
}

#[test]
fn no_flag_selects_everything() {
    assert_eq!(
        resolve(&Selection::default()).expect("a filter"),
        Filter::ALL
    );
}

#[test]
fn each_form_of_an_endpoint_selects_what_it_says() {
    for (form, inside, outside) in [
        ("10.0.0.5", "10.0.0.5:9", "10.0.0.6:9"),
        ("10.0.0.0/8", "10.255.0.1:9", "11.0.0.1:9"),
        ("10.0.0.5/32", "10.0.0.5:9", "10.0.0.4:9"),
        ("0.0.0.0/0", "192.0.2.1:9", "[fd00::1]:9"),
        ("10.0.0.5:443", "10.0.0.5:443", "10.0.0.5:444"),
        ("10.0.0.5:443-445", "10.0.0.5:445", "10.0.0.5:446"),
        ("10.0.0.0/8:443", "10.9.9.9:443", "10.9.9.9:80"),
        ("fd00::5", "[fd00::5]:9", "[fd00::6]:9"),
        ("[fd00::5]", "[fd00::5]:9", "[fd00::6]:9"),
        ("[fd00::5]:443", "[fd00::5]:443", "[fd00::5]:444"),
        ("[fd00::5]:443-445", "[fd00::5]:444", "[fd00::5]:442"),
        ("fd00::/8", "[fdff::1]:9", "[fe00::1]:9"),
        (
            "2001:db8:1:2:8000::/65",
            "[2001:db8:1:2:8000::9]:9",
            "[2001:db8:1:2::9]:9",
        ),
        ("[fd00::/8]:443", "[fdff::1]:443", "[fdff::1]:80"),
        ("::/0", "[2001:db8::1]:9", "10.0.0.5:9"),
        ("::1", "[::1]:9", "127.0.0.1:9"),
        ("one.example", "10.0.0.5:9", "10.0.0.6:9"),
        ("both.example:443", "[fd00::5]:443", "[fd00::5]:444"),
        ("both.example:443", "10.0.0.5:443", "10.0.0.5:444"),
        (":443", "192.0.2.1:443", "192.0.2.1:444"),
        ("*:443", "[fd00::1]:443", "[fd00::1]:444"),
        // Hosts without an address yet send from these.
        ("0.0.0.0", "0.0.0.0:9", "10.0.0.5:9"),
        ("::", "[::]:9", "[::1]:9"),
        // An IPv4 address as a socket of both families has it.
        ("[::ffff:10.0.0.5]:443", "10.0.0.5:443", "10.0.0.5:444"),
        ("::ffff:10.0.0.0/104", "10.1.2.3:9", "11.0.0.0:9"),
        ("10.0.0.5,10.0.0.6:443", "10.0.0.6:443", "10.0.0.6:444"),
    ] {
        for flag in ["--src", "--dst", "--host"] {
            let filter = filter(&format!("{flag} {form}"));
            for (endpoint, selected) in [(inside, true), (outside, false)] {
                let other = if endpoint.starts_with('[') {
                    "[2001:db8:ff::7]:7"
                } else {
                    "203.0.113.7:7"
                };
                let there = tcp(other, endpoint);
                let back = tcp(endpoint, other);
                assert_eq!(
                    filter.selects(&there),
                    selected,
                    "{flag} {form}: {endpoint}"
                );
                assert_eq!(
                    filter.selects(&back),
                    selected,
                    "{flag} {form}: from {endpoint}"
                );
            }
        }
    }
}

#[test]
fn flags_together_are_all_required() {
    let filter = filter("--src 10.0.0.0/8 --dst 192.0.2.1:443 --proto tcp");
    assert!(filter.selects(&tcp("10.0.0.2:5000", "192.0.2.1:443")));
    assert!(filter.selects(&tcp("192.0.2.1:443", "10.0.0.2:5000")));
    assert!(!filter.selects(&tcp("10.0.0.2:5000", "192.0.2.1:80")));
    assert!(!filter.selects(&tcp("172.16.0.2:5000", "192.0.2.1:443")));
    let udp = Tuple {
        proto: 17,
        ..tcp("10.0.0.2:5000", "192.0.2.1:443")
    };
    assert!(!filter.selects(&udp));
}

#[test]
fn ports_and_hosts_each_need_one_end() {
    let filter = filter("--host 10.0.0.5 --port 80,443-445");
    assert!(filter.selects(&tcp("10.0.0.5:5000", "192.0.2.1:444")));
    assert!(filter.selects(&tcp("10.0.0.5:80", "192.0.2.1:5000")));
    assert!(!filter.selects(&tcp("10.0.0.5:5000", "192.0.2.1:81")));
    assert!(!filter.selects(&tcp("10.0.0.6:80", "192.0.2.1:5000")));
}

#[test]
fn an_icmp_type_is_no_port() {
    let ping = Tuple {
        proto: 1,
        flags: TUPLE_ICMP,
        ..tcp("10.0.0.2:8", "10.0.0.5:0")
    };
    assert!(filter("--proto icmp").selects(&ping));
    assert!(filter("--dst 10.0.0.5").selects(&ping));
    assert!(!filter("--port 8").selects(&ping));
    assert!(!filter("--src 10.0.0.2:8").selects(&ping));
}

#[test]
fn a_rule_has_the_shape_that_the_kernel_side_compares() {
    let rules = filter("--dst 10.0.0.5:443-445 --port 80 --src fd00::5").endpoints;
    assert_eq!(rules[0].family, 6);
    assert_eq!(rules[0].addr, [0xfd00_0000_0000_0000, 5]);
    assert_eq!(rules[0].mask, [u64::MAX; 2]);
    assert_eq!(rules[1].addr, [0x0a00_0005_0000_0000, 0]);
    assert_eq!(rules[1].mask, [0xffff_ffff_0000_0000, 0]);
    assert_eq!((rules[1].port_first, rules[1].port_last), (443, 445));
    assert_eq!(
        (rules[2].family, rules[2].port_first, rules[2].port_last),
        (0, 80, 80)
    );
    assert_eq!(
        rules.map(|rule| rule.role)[..4],
        [ROLE_SRC, ROLE_DST, ROLE_PORT, 0]
    );
    assert_eq!(filter("--dst ::1 --host :1").roles, ROLE_DST | ROLE_HOST);
}

#[test]
fn protocols_go_by_name_and_number() {
    for (form, number) in [
        ("tcp", 6),
        ("UDP", 17),
        ("icmp", 1),
        ("icmpv6", 58),
        ("ipv6-icmp", 58),
        ("sctp", 132),
        ("dccp", 33),
        ("udplite", 136),
        ("esp", 50),
        ("ah", 51),
        ("gre", 47),
        ("igmp", 2),
        ("0", 0),
        ("63", 63),
        ("64", 64),
        ("255", 255),
        ("006", 6),
    ] {
        let mut wanted = [0; 4];
        wanted[usize::from(number / 64u8)] = 1u64 << (number % 64);
        assert_eq!(filter(&format!("--proto {form}")).protos, wanted, "{form}");
    }
    assert_eq!(
        filter("--proto tcp,17 --proto udp").protos,
        [1 << 6 | 1 << 17, 0, 0, 0]
    );
}

#[test]
fn interfaces_and_namespaces_fill_their_lists() {
    let names = filter("--iface eth0,br-1234567890ab --iface eth0").ifnames;
    assert_eq!(&names[0].0, b"eth0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&names[1].0, b"br-1234567890ab\0");
    assert_eq!(names[2], IfName::default());
    let spaces = Selection {
        netns: vec![4_026_531_840, 7, 7],
        ..Selection::default()
    };
    let filter = resolve(&spaces).expect("a filter");
    assert_eq!(filter.netns[..3], [4_026_531_840, 7, 0]);
}

#[test]
fn a_list_has_room_for_as_many_as_it_says() {
    let ports = |count: usize| {
        let ports: Vec<_> = (1..=count).map(|port| port.to_string()).collect();
        format!("--port {}", ports.join(","))
    };
    let full = filter(&ports(FILTER_RULES));
    assert!(full.endpoints.iter().all(|rule| rule.role == ROLE_PORT));
    assert_eq!(
        error(&format!("--host both.example {}", ports(FILTER_RULES - 1))),
        "--src, --dst, --host and --port: that makes 33 rules, and there is room for 32; \
         use a network or a range, for example 10.0.0.0/24 or 8000-8100"
    );
    // What is said twice takes one place.
    filter(&format!("{} --port 1,1,2", ports(FILTER_RULES)));
    let names: Vec<_> = (0..=FILTER_RULES).map(|n| format!("eth{n}")).collect();
    assert!(error(&format!("--iface {}", names.join(","))).starts_with("--iface: that makes 33"));
    let spaces = Selection {
        netns: (1..=33).collect(),
        ..Selection::default()
    };
    assert!(matches!(
        resolve(&spaces),
        Err(FilterError::TooMany {
            flags: "--netns",
            count: 33
        })
    ));
}

#[test]
fn an_error_says_flag_value_problem_and_example() {
    for (line, message) in [
        (
            "--dst 10.0.0.5:44x",
            "--dst 10.0.0.5:44x: \"44x\" is not a port; write for example --dst 10.0.0.5:443",
        ),
        (
            "--src [fd00::5]:0",
            "--src [fd00::5]:0: \"0\" is not a port; write for example --src [fd00::5]:443",
        ),
        (
            "--dst :65536",
            "--dst :65536: \"65536\" is not a port; write for example --dst 10.0.0.5:443",
        ),
        (
            "--dst web:",
            "--dst web:: \"\" is not a port; write for example --dst web:443",
        ),
        (
            "--host 10.0.0.5:445-443",
            "--host 10.0.0.5:445-443: the range ends before it starts; \
             write for example --host 10.0.0.5:443",
        ),
        (
            "--dst 10.0.0.300",
            "--dst 10.0.0.300: \"10.0.0.300\" is not an address, network or host name; \
             write for example --dst 10.0.0.5:443",
        ),
        (
            "--dst 10.0.0.5/8",
            "--dst 10.0.0.5/8: 10.0.0.5/8 has bits set beyond its prefix: 10.0.0.0/8 is the \
             network; write for example --dst 10.0.0.0/8 or 10.0.0.5",
        ),
        (
            "--dst 10.0.0.0/33",
            "--dst 10.0.0.0/33: \"10.0.0.0/33\" is not a network; \
             write for example --dst 10.0.0.0/8",
        ),
        (
            "--dst fd00::5:4x",
            "--dst fd00::5:4x: \"fd00::5:4x\" is not an IPv6 address (with a port, it goes in \
             brackets); write for example --dst [fd00::5]:443",
        ),
        (
            "--dst [fd00::5",
            "--dst [fd00::5: the brackets do not enclose an IPv6 address; \
             write for example --dst [fd00::5]:443",
        ),
        (
            "--dst fe80::1%eth0",
            "--dst fe80::1%eth0: an address here has no zone (%); name the interface with \
             --iface; write for example --dst fe80::1",
        ),
        (
            "--dst *",
            "--dst *: this selects everything, as leaving it out does; \
             write for example --dst 10.0.0.5",
        ),
        (
            "--dst nowhere.example",
            "--dst nowhere.example: cannot find the address of \"nowhere.example\" (no such \
             host); write its address, for example --dst 10.0.0.5",
        ),
        (
            "--dst none.example:80",
            "--dst none.example:80: cannot find the address of \"none.example\" (the name has \
             no addresses); write its address, for example --dst 10.0.0.5",
        ),
        (
            "--port 80,,443",
            "--port 80,,443: an empty value selects nothing; write for example --port 443",
        ),
        (
            "--port https",
            "--port https: \"https\" is not a port; write for example --port 443",
        ),
        (
            "--proto tpc",
            "--proto tpc: \"tpc\" is not a protocol that is known by name, nor a number up to \
             255; write for example --proto tcp",
        ),
        (
            "--iface enp0s31f6-vlan-7",
            "--iface enp0s31f6-vlan-7: an interface name has at most 15 bytes; \
             write for example --iface eth0",
        ),
        (
            "--iface eth0:1",
            "--iface eth0:1: an interface name has no blanks, slashes or colons; \
             write for example --iface eth0",
        ),
    ] {
        assert_eq!(error(line), message);
    }
}

#[test]
fn what_is_no_value_is_refused() {
    for line in [
        "--dst ,",
        "--dst :",
        "--dst []",
        "--dst []:443",
        "--dst [10.0.0.5]:443",
        "--dst [fd00::5]443",
        "--dst [fd00::5]:",
        "--dst [fd00::5]]:443",
        "--dst 10.0.0.5:+443",
        "--dst 10.0.0.5:-",
        "--dst 10.0.0.5:443-",
        "--dst 10.0.0.5:443-444-445",
        "--dst 10.0.0.5:0-10",
        "--dst 10.0.0.5:99999999999999999999",
        "--dst 10.1",
        "--dst 010.0.0.5",
        "--dst 0x7f000001",
        "--dst 0x7f.0x1",
        "--dst 2130706433",
        "--dst .",
        "--dst ..",
        "--dst -",
        "--dst /",
        "--dst /8",
        "--dst 10.0.0.0/",
        "--dst 10.0.0.0/8/8",
        "--dst ::1/129",
        "--dst fd00::5/8",
        "--dst ::ffff:10.0.0.5/104",
        "--dst büro.example",
        "--dst a_very;strange|name",
        "--proto 256",
        "--proto -1",
        "--proto +6",
        "--proto ٦",
        "--iface .",
        "--iface ..",
        "--iface a/b",
        "--iface äöüäöüäö",
    ] {
        error(line);
    }
}

#[test]
fn an_error_shows_control_characters_instead_of_sending_them() {
    let hostile = "\u{1b}[2J\u{7}:x\u{9b}";
    for selection in [
        Selection {
            dst: vec![hostile.to_owned()],
            ..Selection::default()
        },
        Selection {
            port: vec![hostile.to_owned()],
            ..Selection::default()
        },
        Selection {
            proto: vec![hostile.to_owned()],
            ..Selection::default()
        },
        Selection {
            iface: vec![hostile.to_owned()],
            ..Selection::default()
        },
    ] {
        let message = resolve(&selection).expect_err("taken").to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

/// Words put together at random from what could upset a parser.
#[test]
fn nothing_that_can_be_typed_panics() {
    const PIECES: [&str; 40] = [
        "",
        "0",
        "1",
        "10",
        "255",
        "256",
        "443",
        "65535",
        "65536",
        "4294967296",
        ".",
        ":",
        "::",
        "/",
        "-",
        ",",
        "*",
        "[",
        "]",
        "%",
        " ",
        "\t",
        "\0",
        "\u{1b}",
        "a",
        "ff",
        "x",
        "0x",
        "ä",
        "\u{202e}",
        "10.0.0.5",
        "10.0.0.0/8",
        "fd00::5",
        "::ffff:",
        "one.example",
        "eth0",
        "tcp",
        "/0",
        "/128",
        "99999999999999999999",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 1_000_003).unwrap_or(0) % below
    };
    for _ in 0..60_000 {
        let pieces = random(7);
        let word: String = (0..pieces).map(|_| PIECES[random(PIECES.len())]).collect();
        let mut selection = Selection::default();
        match random(6) {
            0 => selection.src.push(word),
            1 => selection.dst.push(word),
            2 => selection.host.push(word),
            3 => selection.port.push(word),
            4 => selection.proto.push(word),
            _ => selection.iface.push(word),
        }
        match resolve_with(&selection, &known_names) {
            Ok(filter) => _ = filter.selects(&tcp("10.0.0.5:443", "192.0.2.1:9")),
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with("--"), "{message}");
                assert!(!message.chars().any(char::is_control), "{message:?}");
            }
        }
    }
}

/// The one test that asks the machine's own resolver: this name needs no network.
#[test]
fn a_name_is_looked_up() {
    let selection = selection("--dst localhost:443");
    let filter = resolve(&selection).expect("localhost has an address");
    assert!(
        filter.selects(&tcp("127.0.0.1:1", "127.0.0.1:443"))
            || filter.selects(&tcp("[::1]:1", "[::1]:443"))
    );
    assert_eq!("::1".parse(), Ok(Ipv6Addr::LOCALHOST));
}

//! Tables made up byte by byte.

use std::io;

use droptrace_types::{XT_BLOCKS, XT_COUNTERS, XT_NETNS_BLOCKS, XT_WINDOW, XtBlock, XtRule};

use super::{
    Kernel, Whereabouts, XtGroup,
    blocks::{Slots, Watched, blocks},
    family::Family,
    layout::{BridgeLayout, BridgeReach, HookEntries, IpLayout, Layout, Reach},
    locate::Reader,
    text::{self, Text},
    walk::{Head, IP6T_ADDRESSES, IPT_ADDRESSES, Rule, Walked, walk},
};

// Addresses of targets.
const STANDARD: u64 = 1;
const ERROR: u64 = 2;
const REJECT: u64 = 3;
const LOG: u64 = 4;

const ACCEPT: i32 = -2;
const DROP: i32 = -1;
const RETURN: i32 = -5;

const INPUT: usize = 1;
const OUTPUT: usize = 3;

fn name(target: u64) -> Option<String> {
    let names = [
        (STANDARD, ""),
        (ERROR, "ERROR"),
        (REJECT, "REJECT"),
        (LOG, "LOG"),
    ];
    let found = names.iter().find(|(address, _)| *address == target);
    found.map(|(_, name)| (*name).to_owned())
}

/// Makes tables.
struct Maker {
    head: Head,
    memory: Vec<u8>,
}

impl Maker {
    fn new(addresses: usize) -> Self {
        let head = Head {
            addresses,
            hooks: 1 << INPUT | 1 << OUTPUT,
            number: 0,
            entry: [u32::MAX; 5],
            underflow: [u32::MAX; 5],
        };
        Self {
            head,
            memory: Vec::new(),
        }
    }

    fn here(&self) -> u32 {
        u32::try_from(self.memory.len()).unwrap()
    }

    /// An entry with a match of 40 bytes.
    fn entry(&mut self, target: u64, data: &[u8], hooks: u32) {
        let (behind, counters, head) = match self.head.addresses {
            IPT_ADDRESSES => (84, 96, 112),
            _ => (136, 152, 168),
        };
        let mut entry = vec![0; head + 40];
        let target_at = u16::try_from(entry.len()).unwrap();
        entry.resize(entry.len() + 8, 0);
        entry.extend(target.to_ne_bytes());
        entry.resize(entry.len() + 16, 0);
        entry.extend(data);
        entry.resize(entry.len().next_multiple_of(8), 0);
        let len = u16::try_from(entry.len()).unwrap();
        entry[behind + 4..behind + 6].copy_from_slice(&target_at.to_ne_bytes());
        entry[behind + 6..behind + 8].copy_from_slice(&len.to_ne_bytes());
        entry[behind + 8..behind + 12].copy_from_slice(&hooks.to_ne_bytes());
        let counter = 0x1000 + u64::from(self.head.number) * 16;
        entry[counters..counters + 8].copy_from_slice(&counter.to_ne_bytes());
        self.head.number += 1;
        self.memory.extend(entry);
    }

    fn verdict(&mut self, verdict: i32, hooks: u32) {
        self.entry(STANDARD, &verdict.to_ne_bytes(), hooks);
    }

    fn begin(&mut self, hook: usize) {
        self.head.entry[hook] = self.here();
    }

    fn policy(&mut self, hook: usize, verdict: i32) {
        self.head.underflow[hook] = self.here();
        self.verdict(verdict, 1 << hook);
    }

    fn chain(&mut self, name: &str) {
        let mut data = name.as_bytes().to_vec();
        data.resize(30, 0);
        self.entry(ERROR, &data, 0);
    }

    fn walk(&self) -> Option<Walked> {
        walk(&self.head, &self.memory, name)
    }
}

/// Two chains with hooks and two of the user's.
fn table(addresses: usize) -> Maker {
    let mut maker = Maker::new(addresses);
    maker.begin(INPUT);
    maker.verdict(ACCEPT, 1 << INPUT);
    maker.entry(LOG, &[0; 8], 1 << INPUT);
    maker.verdict(DROP, 1 << INPUT);
    maker.entry(REJECT, &[0; 8], 1 << INPUT);
    maker.verdict(1000, 1 << INPUT);
    maker.policy(INPUT, DROP);
    maker.begin(OUTPUT);
    maker.policy(OUTPUT, ACCEPT);
    maker.chain("deep");
    maker.verdict(RETURN, 1 << INPUT);
    maker.verdict(DROP, 1 << INPUT | 1 << OUTPUT);
    maker.verdict(RETURN, 1 << INPUT);
    maker.chain("unused");
    maker.verdict(DROP, 0);
    maker.verdict(RETURN, 0);
    maker.chain("ERROR");
    maker
}

#[test]
fn rules_that_drop_have_chain_and_number() {
    for addresses in [IPT_ADDRESSES, IP6T_ADDRESSES] {
        let walked = table(addresses).walk().unwrap();
        let chains: Vec<(&str, usize)> = walked
            .chains
            .iter()
            .map(|chain| (chain.name.as_str(), chain.len))
            .collect();
        assert_eq!(
            chains,
            [("INPUT", 5), ("OUTPUT", 0), ("deep", 2), ("unused", 1)]
        );
        let rules: Vec<(usize, usize, bool, u8, u64)> = walked
            .rules
            .iter()
            .map(|rule| {
                (
                    rule.chain,
                    rule.number,
                    rule.rejects,
                    rule.hooks,
                    rule.counters,
                )
            })
            .collect();
        assert_eq!(
            rules,
            [
                (0, 3, false, 0b10, 0x1020),
                (0, 4, true, 0b10, 0x1030),
                (0, 0, false, 0b10, 0x1050),
                (2, 2, false, 0b1010, 0x1090),
            ]
        );
        assert_eq!(walked.counters_at.len(), 15);
    }
}

#[test]
fn a_table_that_is_not_in_order_is_refused() {
    let mut unknown = table(IPT_ADDRESSES);
    unknown.entry(99, &[0; 8], 0);
    assert_eq!(unknown.walk(), None);
    let mut more = table(IPT_ADDRESSES);
    more.head.number += 1;
    assert_eq!(more.walk(), None);
    let mut no_chain = Maker::new(IPT_ADDRESSES);
    no_chain.verdict(DROP, 2);
    no_chain.chain("ERROR");
    assert_eq!(no_chain.walk(), None);
    let mut no_end = Maker::new(IPT_ADDRESSES);
    no_end.begin(INPUT);
    no_end.verdict(DROP, 2);
    no_end.chain("ERROR");
    assert_eq!(no_end.walk(), None);
    let mut no_return = Maker::new(IPT_ADDRESSES);
    no_return.chain("deep");
    no_return.verdict(DROP, 2);
    no_return.chain("ERROR");
    assert_eq!(no_return.walk(), None);
    assert_eq!(walk(&table(IPT_ADDRESSES).head, &[], name), None);
}

/// Whatever stands there, the walk ends, and says nothing that is out of bounds.
#[test]
fn hostile_memory_does_no_harm() {
    let good = table(IP6T_ADDRESSES);
    let check = |maker: &Maker| {
        if let Some(walked) = maker.walk() {
            for Rule {
                chain,
                number,
                counters_at,
                ..
            } in walked.rules
            {
                assert!(number <= walked.chains[chain].len);
                assert!(counters_at + 16 <= maker.memory.len());
            }
        }
    };
    for at in 0..good.memory.len() {
        for byte in [0, 1, 8, 0x7f, 0xff] {
            let mut bad = table(IP6T_ADDRESSES);
            bad.memory[at] = byte;
            check(&bad);
        }
    }
    for len in 0..good.memory.len() {
        let mut short = table(IP6T_ADDRESSES);
        short.memory.truncate(len);
        assert_eq!(short.walk(), None);
    }
    for at in [0, 1, 8, 176, u32::MAX] {
        let mut bad = table(IPT_ADDRESSES);
        bad.head.entry[INPUT] = at;
        check(&bad);
        bad.head.underflow[INPUT] = at;
        check(&bad);
    }
}

const LISTING: &str = "\
# Generated by iptables-save v1.8.9 on Sun Nov 22 10:30:58 2026
*filter
:INPUT DROP [3:120]
:OUTPUT ACCEPT [0:0]
:deep - [0:0]
:unused - [0:0]
-A INPUT -p tcp -j ACCEPT
-A INPUT -j LOG
-A INPUT -p udp -m comment --comment \"say \\\"DROP\\\"\" -j DROP
-A INPUT -j REJECT --reject-with icmp-port-unreachable
-A INPUT -j deep
-A deep -p tcp -j RETURN
-A deep -j DROP
-A unused -j DROP
COMMIT
# Completed on Sun Nov 22 10:30:58 2026
";

#[test]
fn a_listing_fits_its_table_and_no_other() {
    let walked = table(IPT_ADDRESSES).walk().unwrap();
    let text = Text::parse(Family::Ip, "filter", LISTING).unwrap();
    assert!(text.fits(&walked));
    assert_eq!(text.line("deep", 2), Some("-A deep -j DROP"));
    assert_eq!(text.line("INPUT", 0), Some("-P INPUT DROP"));
    assert_eq!((text.line("deep", 3), text.line("none", 1)), (None, None));
    for (from, to) in [
        ("-A deep -j DROP\n", ""),
        ("-A deep -j DROP", "-A deep -j ACCEPT"),
        ("-A deep -j DROP", "-A unused -j DROP"),
        ("-A unused -j DROP", "-A unused -j DROP\n-A more -j DROP"),
        (":INPUT DROP", ":INPUT ACCEPT"),
    ] {
        let other = Text::parse(Family::Ip, "filter", &LISTING.replacen(from, to, 1)).unwrap();
        assert!(!other.fits(&walked), "{to}");
    }
    assert!(
        Text::parse(
            Family::Ip,
            "filter",
            "-A INPUT --comment \"a\nb\" -j DROP\n"
        )
        .is_none()
    );
    assert!(Text::parse(Family::Ip, "filter", "\n").is_none());
}

#[test]
fn options_are_read_as_they_are_quoted() {
    let line = "-A INPUT -m comment --comment \"say \\\"DROP\\\" --reject-with x\" -j REJECT \
                --reject-with tcp-reset";
    assert_eq!(
        text::option(line, "--comment").unwrap(),
        "say \"DROP\" --reject-with x"
    );
    assert_eq!(text::option(line, "--reject-with").unwrap(), "tcp-reset");
    assert_eq!(text::option("-A INPUT --comment", "--comment"), None);
    assert_eq!(
        text::option("-A INPUT --comment \"\\", "--comment").unwrap(),
        ""
    );
}

fn watched(addresses: impl IntoIterator<Item = u64>) -> Vec<Watched> {
    let one = |address| Watched { address, hooks: 2 };
    addresses.into_iter().map(one).collect()
}

#[test]
fn counters_are_put_together_by_page() {
    let template = XtBlock {
        per_cpu: 1,
        ..XtBlock::EMPTY
    };
    let some = watched([0x3ff0, 0x4010, 0x3000, 0x4000]);
    let found = blocks(&some, &template).unwrap();
    let short: Vec<(u64, u32, u32, &[usize])> = found
        .iter()
        .map(|(block, which)| (block.address, block.count, block.len, which.as_slice()))
        .collect();
    assert_eq!(
        short,
        [
            (0x3000, 2, 0x1000, &[2, 0][..]),
            (0x4000, 2, 0x20, &[3, 1][..])
        ]
    );
    assert_eq!(found[0].0.at[..2], [0, 0xff0]);
    // One CPU's counters lie among the rules.
    let found = blocks(&some, &XtBlock::EMPTY).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].0.address, found[1].0.address), (0x3000, 0x4000));
    let close = blocks(&watched([0x3ff8, 0x4068]), &XtBlock::EMPTY).unwrap();
    assert_eq!(close.len(), 1);
}

#[test]
fn blocks_hold_what_the_kernel_side_can_take() {
    let many = watched((0..5000).map(|i| 0x10000 + i * 16));
    let found = blocks(&many, &XtBlock::EMPTY).unwrap();
    assert_eq!(
        found.iter().map(|(_, which)| which.len()).sum::<usize>(),
        5000
    );
    for (block, which) in &found {
        assert_eq!(block.count as usize, which.len());
        assert!(block.count as usize <= XT_COUNTERS && block.len as usize <= XT_WINDOW);
    }
    let too_many = watched((0..=u64::from(XT_NETNS_BLOCKS)).map(|i| i * 0x1000));
    assert!(blocks(&too_many, &XtBlock::EMPTY).is_none());
    for nowhere in [1, u64::MAX, u64::MAX - 7] {
        assert!(blocks(&watched([nowhere]), &XtBlock::EMPTY).is_none());
    }
}

#[test]
fn slots_are_taken_and_given_back_in_rows() {
    let mut slots = Slots::default();
    let first = slots.take(XT_BLOCKS / 2).unwrap();
    let second = slots.take(XT_BLOCKS / 4).unwrap();
    assert_eq!(second, XT_BLOCKS / 2..XT_BLOCKS * 3 / 4);
    slots.give_back(first);
    assert_eq!(slots.take(XT_BLOCKS / 2 + 1), None);
    assert_eq!(slots.take(XT_BLOCKS / 2), Some(0..XT_BLOCKS / 2));
    assert_eq!(slots.take(XT_BLOCKS + 1), None);
    assert!(slots.take(0).is_some());
}

#[test]
fn a_rule_as_a_word_is_no_kernel_address() {
    let rule = XtRule {
        serial: XtRule::MAX_SERIAL,
        block: 255,
        index: 63,
    };
    assert_eq!(XtRule::unpack(rule.pack()), Some(rule));
    assert_eq!(XtRule::unpack(0xffff_8880_1234_5678), None);
    assert_eq!(XtRule::unpack(0), None);
}

/// Memory in which every word is the same.
struct Noise(u64);

impl Kernel for Noise {
    fn read(&mut self, _: u64, into: &mut [u8]) -> io::Result<()> {
        for (to, byte) in into.iter_mut().zip(self.0.to_ne_bytes().iter().cycle()) {
            *to = *byte;
        }
        Ok(())
    }

    fn whereabouts(&mut self) -> io::Result<Whereabouts> {
        Ok(Whereabouts {
            task: self.0,
            map: self.0,
        })
    }

    fn set_block(&mut self, _: u32, _: &XtBlock) -> io::Result<()> {
        Ok(())
    }

    fn settle(&mut self, _: &XtGroup, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_group(&mut self, _: u32, _: Option<&XtGroup>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_table_is_found_in_noise() {
    let entries = HookEntries {
        count: 0,
        hooks: 8,
        size: 16,
        data: 8,
    };
    let lists = Reach::Lists { at: 16 };
    let hooks = Reach::Hooks {
        ipv4: 8,
        ipv6: 48,
        entries,
    };
    let of_hooks = BridgeReach::Hooks {
        at: 216,
        entries,
        table_size: 96,
        table_name: 16,
        table_info: 72,
    };
    let pointers = BridgeReach::Pointers { at: 224 };
    for (reach, bridge) in [(lists, pointers), (hooks, of_hooks)] {
        let layout = Layout {
            task_nsproxy: 8,
            nsproxy_net: 8,
            net_inum: 8,
            array_elements: 8,
            ip: Some(IpLayout {
                reach,
                table_size: 88,
                table_list: 0,
                table_hooks: 16,
                table_info: 24,
                table_family: 40,
                table_name: 56,
                info_size: 0,
                info_number: 4,
                info_entry: 12,
                info_underflow: 32,
                info_entries: 64,
            }),
            bridge: Some(BridgeLayout {
                reach: bridge,
                info_size: 0,
                info_number: 4,
                info_entry: 8,
                info_entries: 64,
                info_counters: 128,
                cache_line: 64,
                seen: 0,
            }),
        };
        for word in [0, 1, 0x0202_0202_0202_0202, 0x0a0a, u64::MAX] {
            let mut reader = Reader {
                kernel: &mut Noise(word),
                layout: &layout,
            };
            for family in Family::ALL {
                let names = (family != Family::Bridge).then(|| ["filter".to_owned()]);
                let names = names.as_ref().map(<[String; 1]>::as_slice);
                let found = reader.tables(0x1000, family, names);
                assert_eq!(found.unwrap(), []);
            }
        }
    }
}

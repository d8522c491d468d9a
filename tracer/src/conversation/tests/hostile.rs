//! However much comes and whatever it says, memory has bounds and nothing panics.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    super::{Content, Packet, Passed, Seen, Segment, Sighting, Way},
    world::*,
};
use crate::event::Event;

/// Numbers that look random, always the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn end(n: u64) -> SocketAddr {
    let number = u32::try_from(n % (1 << 24)).expect("24 bits");
    let address = Ipv4Addr::from_bits(10 << 24 | number);
    SocketAddr::new(address.into(), 40_000)
}

#[test]
fn a_flood_of_conversations_stays_within_bounds() {
    let mut world = World::new();
    let many = 20_000_u64;
    for n in 0..many {
        world.client = end(n);
        world.syn(i64::try_from(n).expect("few"));
    }
    let told = world.conversations.settled(at(20_000)).len();
    let left = world.conversations.conclude(at(20_000), &[]);
    let whole = said(left.last().expect("a verdict"));
    // Verdicts may be given up, the numbers may not.
    assert!(told <= 4096 && left.len() <= 4097);
    assert_eq!(whole.conversations, many);
}

#[test]
fn any_segments_in_any_order_end_in_verdicts() {
    let mut dice = Dice(88_172_645_463_325_252);
    let mut world = World::new();
    let mut told = 0;
    for n in 0..20_000_i64 {
        let (one, other) = (end(dice.roll(20)), address(SERVER));
        let (src, dst) = if dice.roll(2) == 0 {
            (one, other)
        } else {
            (other, one)
        };
        let mut number = || u32::try_from(dice.roll(1 << 32)).expect("32 bits");
        let (seq, ack, payload) = (number(), number(), number());
        let segment = Segment {
            sport: src.port(),
            dport: dst.port(),
            flags: u8::try_from(dice.roll(64)).expect("6 bits"),
            seq,
            ack,
            window: 0,
            payload,
            window_shift: None,
            has_timestamps: false,
            mss: Some(u16::try_from(dice.roll(1 << 16)).expect("16 bits")),
            fast_open: false,
            multipath: None,
        };
        let packet = Packet {
            way: if dice.roll(2) == 0 { Way::In } else { Way::Out },
            ifname: String::new(),
            src: src.ip(),
            dst: dst.ip(),
            ttl: u8::try_from(dice.roll(256)).expect("8 bits"),
            ip_id: None,
            dont_fragment: false,
            dscp: 0,
            len: 0,
            content: Content::Tcp(segment),
            passed: Passed {
                packets: dice.roll(u64::MAX),
                ..Passed::default()
            },
        };
        let jitter = i64::try_from(dice.roll(5000)).expect("few");
        world.conversations.see(&[Sighting {
            is_selected: true,
            at: at(n * 10 - jitter),
            netns: HOME + u32::try_from(dice.roll(20)).expect("few"),
            what: Seen::Packet(packet),
        }]);
        if n % 100 == 0 {
            told += world.conversations.settled(at(n * 10)).len();
        }
    }
    told += world.conversations.conclude(at(200_000), &[]).len();
    assert!(told > 0);
}

#[test]
fn a_long_story_has_64_steps_and_says_how_many_it_leaves_out() {
    let mut world = World::new();
    world.client_is(
        0,
        super::super::TcpState::Close,
        super::super::TcpState::SynSent,
        0,
    );
    for n in 0..100 {
        world.syn(n * 1000);
    }
    let event: Event = world.verdict(100_000);
    let verdict = said(&event);
    assert_eq!((verdict.timeline.len(), verdict.steps_left_out), (64, 37));
}

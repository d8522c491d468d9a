//! From a finding to a `verdict` record.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::{
    advice::{self, Parties},
    destination::{Destination, Tally},
    judge::{self, Finding},
    proto_name,
    story::{Role, Story},
};
use crate::event::{
    Code, Confidence, Direction, Event, EventKind, Family, Flow, Outcome, Step, Verdict, Where, utc,
};

/// About one conversation.
pub(super) fn of_one(story: &Story, finding: &Finding) -> Event {
    let home = story.home();
    let (timeline, left_out) = story.timeline.at_home(home);
    let flow = flow(
        proto_name(story.proto),
        (story.client.ip(), Some(story.client.port())),
        (story.server.ip(), Some(story.server.port())),
        Some(story.role()),
    );
    let parties = Parties::of(story.role(), story.client.ip(), story.server);
    let mut event = event(finding, flow, home, story.began, story.last);
    event.advice = finding
        .advice
        .clone()
        .or_else(|| advice::of(finding.code, parties));
    let name = story.drops.iter().find(|drop| drop.netns == home);
    if let (Some(place), Some(name)) = (&mut event.r#where, name) {
        place.netns_name.clone_from(&name.netns_name);
    }
    event.verdict = Some(verdict(finding, 1, 1, timeline, left_out));
    event
}

/// About all conversations with a destination.
pub(super) fn of_all(destination: &Destination, tally: &Tally) -> Event {
    let finding = &tally.finding;
    let parties = Parties::of(destination.role, destination.client, destination.server);
    let flow = flow(
        proto_name(destination.proto),
        (destination.client, None),
        (destination.server.ip(), Some(destination.server.port())),
        Some(destination.role),
    );
    let mut event = event(
        finding,
        flow,
        destination.home,
        destination.began,
        destination.last,
    );
    event.advice = finding
        .advice
        .clone()
        .or_else(|| advice::of(finding.code, parties));
    event.verdict = Some(verdict(
        finding,
        destination.conversations,
        tally.count,
        Vec::new(),
        0,
    ));
    event
}

/// About a destination of which nothing was seen; `lost` sightings, and `unlisted` packets
/// that were dropped and whose flow is not known, may have been of it.
pub(super) fn of_none(
    address: IpAddr,
    port: Option<u16>,
    (lost, unlisted): (u64, u64),
    now: Timestamp,
) -> Event {
    let to = port.map_or_else(
        || address.to_string(),
        |port| SocketAddr::new(address, port).to_string(),
    );
    let mut evidence = vec!["no packet, drop or socket of it was seen".to_owned()];
    if lost > 0 {
        evidence.push(format!("{lost} sightings of packets were lost"));
    }
    let mut explanation = format!("nothing was sent to {to} while droptrace looked");
    if unlisted > 0 {
        evidence.push(judge::unlisted_drops(unlisted));
        explanation = format!("nothing is known to have been sent to {to} while droptrace looked");
    }
    let finding = Finding {
        outcome: Outcome::Timeout,
        code: Code::NoTraffic,
        confidence: Confidence::Inferred,
        explanation,
        evidence,
        rule: None,
        process: None,
        advice: advice::of(
            Code::NoTraffic,
            Parties {
                server: SocketAddr::new(address, port.unwrap_or_default()),
                client: None,
            },
        ),
    };
    let unknown: IpAddr = if address.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let flow = flow("tcp", (unknown, None), (address, port), None);
    let mut event = event(&finding, flow, None, now, now);
    event.advice.clone_from(&finding.advice);
    event.verdict = Some(verdict(&finding, 0, 0, Vec::new(), 0));
    event
}

fn verdict(
    finding: &Finding,
    conversations: u64,
    affected: u64,
    timeline: Vec<Step>,
    steps_left_out: u64,
) -> Verdict {
    Verdict {
        outcome: finding.outcome,
        code: finding.code,
        explanation: finding.explanation.clone(),
        evidence: finding.evidence.clone(),
        confidence: finding.confidence,
        conversations,
        affected,
        timeline,
        steps_left_out,
    }
}

fn flow(
    proto: &str,
    (src, sport): (IpAddr, Option<u16>),
    (dst, dport): (IpAddr, Option<u16>),
    role: Option<Role>,
) -> Flow {
    Flow {
        family: if dst.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        },
        proto: proto.to_owned(),
        src,
        sport,
        dst,
        dport,
        direction: role.map(|role| match role {
            Role::Client => Direction::Out,
            Role::Server => Direction::In,
            Role::Router => Direction::Forward,
        }),
        vlan: None,
        fragment: false,
        icmp: None,
        about: None,
    }
}

fn event(
    finding: &Finding,
    flow: Flow,
    home: Option<u32>,
    began: Timestamp,
    last: Timestamp,
) -> Event {
    Event {
        first_seen: utc(began),
        flow: Some(flow),
        rule: finding.rule.clone(),
        r#where: Some(Where {
            netns: home,
            ..Where::default()
        }),
        process: finding.process.clone(),
        ..Event::bare(EventKind::Verdict, utc(last))
    }
}

//! From counts and details to records.

mod cause;
mod clock;
mod evidence;
mod flow;
mod headers;
mod packet;
mod rule;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use droptrace_types::{Counts, Detail, Key, Kind};

use self::{
    cause::{Causes, Stack},
    clock::Clock,
};
use crate::{
    event::{Event, EventKind, Loss, LossCause, LossOf, SCHEMA, Where},
    kernel::{btf::Btf, interface, reasons::Reasons, symbols::Symbols},
    owner::{
        home::{Home, Homes},
        netns,
        sockets::Sockets,
    },
    reason::plain_name,
    rules::{Answer, RuleAt, RuleSets, place},
    tracer::{Drained, Losses},
};

/// Interface names that are remembered.
const MAX_NAMES: usize = 4096;
/// A record waits so long at most for the text of its rule: several times what
/// reading 50,000 rules takes on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Records that wait at a time; others come without the text, or with an older one.
const MAX_WAITING: usize = 4096;

/// Makes records; keeps what it has learnt about the machine.
pub struct Recorder {
    causes: Causes,
    sockets: Sockets,
    homes: Homes,
    rules: RuleSets,
    /// Names of interfaces by namespace and index, from earlier details.
    names: HashMap<(u32, u32), String>,
    own_netns: u32,
    missed_a_rule: bool,
    /// Records whose rules are being read.
    waiting: Vec<Waiting>,
}

/// A record that waits for the text of its rule.
struct Waiting {
    event: Event,
    netns: u32,
    at: RuleAt,
    until: Instant,
}

impl Recorder {
    /// With what is known of the running kernel.
    #[must_use]
    pub fn new(reasons: Reasons, symbols: Symbols) -> Self {
        Self {
            causes: Causes::new(reasons, symbols),
            sockets: Sockets::default(),
            homes: Homes::default(),
            rules: RuleSets::default(),
            names: HashMap::new(),
            own_netns: netns::own(),
            missed_a_rule: false,
            waiting: Vec::new(),
        }
    }

    /// Begins to read the rules of rule sets, for records that come up to
    /// `interval` after what they are about.
    pub fn read_rules(&mut self, interval: Duration) {
        self.rules.start(interval + PATIENCE);
    }

    /// Learns the reasons of a kernel module.
    pub fn add_module(&mut self, btf: &Btf) {
        self.causes.add_module(btf);
    }

    /// The records of one interval, oldest first, one at a time. `stack_of`
    /// gives the return addresses of a detail's stack.
    pub fn records<'a>(
        &'a mut self,
        drained: Drained,
        stack_of: impl Fn(i32) -> Vec<u64> + 'a,
    ) -> impl Iterator<Item = Event> + 'a {
        let told = self.told();
        let clock = Clock::now();
        let losses = losses(&drained.losses, &clock);
        let Drained {
            mut counts,
            unlisted,
            ..
        } = drained;
        counts.sort_by_key(|(_, counts, _)| counts.last_ns);
        let records = counts.into_iter().filter_map(move |(key, counts, detail)| {
            let mut event = self.record(&key, &counts, detail.as_deref(), &clock, &stack_of);
            if key.sketch != 0 {
                let flows = unlisted.get(&key.sketch).copied();
                event.flows_unlisted = Some(flows.unwrap_or(1));
                event.undecoded = None;
            }
            match detail.and_then(|detail| rule_at(&detail)) {
                Some(at) => self.with_rule(event, at),
                None => Some(event),
            }
        });
        told.into_iter().chain(records).chain(losses)
    }

    /// Whether records wait for the text of their rules.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets no record wait any longer than until then.
    pub fn hurry(&mut self, until: Instant) {
        for waiting in &mut self.waiting {
            waiting.until = waiting.until.min(until);
        }
    }

    /// The records that need not wait any longer.
    pub fn told(&mut self) -> Vec<Event> {
        self.rules.look_again();
        let waiting = std::mem::take(&mut self.waiting);
        let told = waiting
            .into_iter()
            .filter_map(|waiting| self.try_again(waiting));
        told.collect()
    }

    /// Adds the rule to a record; `None` if it has to wait for that.
    fn with_rule(&mut self, event: Event, at: RuleAt) -> Option<Event> {
        let netns = event.r#where.as_ref().and_then(|place| place.netns);
        self.try_again(Waiting {
            event,
            netns: netns.unwrap_or(0),
            at,
            until: Instant::now() + PATIENCE,
        })
    }

    fn try_again(&mut self, mut waiting: Waiting) -> Option<Event> {
        let found = match self.rules.find(waiting.netns, &waiting.at) {
            Answer::Later(_)
                if self.waiting.len() < MAX_WAITING && Instant::now() < waiting.until =>
            {
                self.waiting.push(waiting);
                return None;
            }
            Answer::Now(found) | Answer::Later(found) => found,
        };
        let rule = rule::of(&waiting.at, found.as_ref());
        let look_up = rule::advice(&rule, found.as_ref());
        waiting.event.advice = look_up.or(waiting.event.advice);
        waiting.event.rule = Some(rule);
        Some(waiting.event)
    }

    fn record(
        &mut self,
        key: &Key,
        counts: &Counts,
        detail: Option<&Detail>,
        clock: &Clock,
        stack_of: &impl Fn(i32) -> Vec<u64>,
    ) -> Event {
        let kind = match Kind::from_u8(key.cause.kind) {
            Some(Kind::ResetSent) => EventKind::ResetSent,
            Some(Kind::ResetReceived) => EventKind::ResetReceived,
            Some(Kind::Retransmit) => EventKind::Retransmit,
            Some(Kind::Drop) | None => EventKind::Drop,
        };
        let location = self.causes.location(key.cause.location);
        let stack = detail.map_or_else(Stack::default, |detail| {
            self.causes
                .stack(&stack_of(detail.stack_id), key.cause.location)
        });
        let evidence = evidence::of(key, detail, &stack);
        let (reason, advice) =
            self.causes
                .reason(kind, key.cause.reason, location.as_ref(), &evidence);
        let home = match key.cause.netns {
            0 => Home::default(),
            own if own == self.own_netns => Home::default(),
            netns => self.homes.of(netns),
        };
        let r#where = Where {
            function: location.as_ref().map(|location| location.function.clone()),
            offset: location.as_ref().map(|location| location.offset),
            hook: None,
            netns: (key.cause.netns != 0).then_some(key.cause.netns),
            netns_name: home.name,
            container: home.container,
            ifname: self.ifname(key, detail),
            ifindex: (key.cause.ifindex != 0).then_some(key.cause.ifindex),
            stack: stack.above,
        };
        let by_rule = location
            .as_ref()
            .is_some_and(|location| plain_name(&location.function) == place::FUNCTION);
        self.missed_a_rule |= by_rule && detail.is_some_and(|detail| rule_at(detail).is_none());
        let process = detail.and_then(|detail| self.sockets.owner(detail));
        Event {
            schema: SCHEMA.to_owned(),
            kind,
            time: clock.utc(counts.last_ns),
            first_seen: clock.utc(counts.first_ns),
            flow: flow::of(key),
            packets: counts.packets,
            bytes: counts.bytes,
            reason: Some(reason),
            rule: None,
            r#where: Some(r#where),
            process,
            conntrack: detail.and_then(packet::conntrack),
            tcp: detail.and_then(packet::tcp),
            advice,
            packet: detail.and_then(packet::seen),
            undecoded: flow::undecoded(key),
            flows_unlisted: None,
            loss: None,
        }
    }

    /// Whether a rule dropped a packet and was not found since the last call.
    pub fn missed_a_rule(&mut self) -> bool {
        std::mem::take(&mut self.missed_a_rule)
    }

    /// The packet may have lost its device by the time it was dropped; then
    /// another packet's detail, or the tracer's own namespace, tells the name.
    fn ifname(&mut self, key: &Key, detail: Option<&Detail>) -> Option<String> {
        let place = (key.cause.netns, key.cause.ifindex);
        if place.1 == 0 {
            return None;
        }
        if let Some(name) = detail.and_then(|detail| packet::text(&detail.ifname.0)) {
            if self.names.len() >= MAX_NAMES {
                self.names.clear();
            }
            self.names.insert(place, name.clone());
            return Some(name);
        }
        let known = self.names.get(&place).cloned();
        known.or_else(|| (place.0 == self.own_netns).then(|| interface::name_of(place.1))?)
    }
}

/// The rule that decided, by its numbers.
fn rule_at(detail: &Detail) -> Option<RuleAt> {
    let rule = (detail.rule.is_known != 0).then_some(&detail.rule)?;
    Some(RuleAt {
        family: u8::try_from(rule.family).ok()?,
        table: rule.table,
        chain: rule.chain,
        rule: rule.rule,
        cookie: (rule.cookie != 0).then_some(rule.cookie),
        ns: detail.time_ns,
    })
}

/// A record for each kind of loss that occurred.
fn losses(losses: &Losses, clock: &Clock) -> Vec<Event> {
    use LossCause::{MapFull, RateLimit, Recursion, RingFull};
    use LossOf::{Details, Events, Packets};
    [
        (Packets, MapFull, losses.packets, losses.bytes),
        (Packets, Recursion, losses.skipped_drops, 0),
        (Events, Recursion, losses.skipped_others, 0),
        (Details, RingFull, losses.details_ring_full, 0),
        (Details, RateLimit, losses.details_rate_limited, 0),
    ]
    .into_iter()
    .filter(|(_, _, count, _)| *count > 0)
    .map(|(what, why, count, bytes)| Event {
        schema: SCHEMA.to_owned(),
        kind: EventKind::Loss,
        time: clock.utc_now(),
        first_seen: clock.utc_now(),
        flow: None,
        packets: if what == Packets { count } else { 0 },
        bytes,
        reason: None,
        rule: None,
        r#where: None,
        process: None,
        conntrack: None,
        tcp: None,
        advice: None,
        packet: None,
        undecoded: None,
        flows_unlisted: None,
        loss: Some(Loss { what, why, count }),
    })
    .collect()
}

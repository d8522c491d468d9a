//! From counts and details to records.

mod cause;
mod clock;
mod conntrack;
mod evidence;
mod flow;
mod headers;
mod hook;
mod hooks;
mod invalid;
mod packet;
mod rule;
mod tracked;

use std::collections::HashMap;

use droptrace_types::{Counts, Detail, Direction, Key, Kind};

use self::{
    cause::{Causes, Stack},
    clock::Clock,
    hooks::{Hooks, Stage},
};
use crate::{
    conntrack::Conntrack,
    event::{Class, Engine, Event, EventKind, Loss, LossCause, LossOf, Rule, SCHEMA, Where},
    kernel::{
        btf::Btf,
        interface,
        reasons::Reasons,
        symbols::{Location, Symbols},
    },
    owner::{netns, sockets::Sockets},
    reason::plain_name,
    rules::{RuleAt, RuleSets, trial},
    tracer::{Drained, Losses},
    xtables,
};

/// The kernel's reason for what netfilter dropped.
const NETFILTER_DROP: &str = "NETFILTER_DROP";

/// Interface names that are remembered.
const MAX_NAMES: usize = 4096;

/// Makes records; keeps what it has learnt about the machine.
pub struct Recorder {
    causes: Causes,
    sockets: Sockets,
    rules: RuleSets,
    conntrack: Conntrack,
    /// Names of interfaces by namespace and index, from earlier details.
    names: HashMap<(u32, u32), String>,
    own_netns: u32,
    missed_a_rule: bool,
}

impl Recorder {
    /// With what is known of the running kernel.
    #[must_use]
    pub fn new(reasons: Reasons, symbols: Symbols) -> Self {
        Self {
            causes: Causes::new(reasons, symbols),
            sockets: Sockets::default(),
            rules: RuleSets::default(),
            conntrack: Conntrack::default(),
            names: HashMap::new(),
            own_netns: netns::own(),
            missed_a_rule: false,
        }
    }

    /// Learns the reasons of a kernel module.
    pub fn add_module(&mut self, btf: &Btf) {
        self.causes.add_module(btf);
    }

    /// The records of one interval, oldest first, one at a time. `legacy` has the
    /// xtables rules that their keys name; `stack_of`
    /// gives the return addresses of a detail's stack.
    pub fn records<'a>(
        &'a mut self,
        drained: Drained,
        legacy: HashMap<u64, xtables::Found>,
        stack_of: impl Fn(i32) -> Vec<u64> + 'a,
    ) -> impl Iterator<Item = Event> + 'a {
        self.rules.look_again();
        let clock = Clock::now();
        let losses = losses(&drained.losses, &clock);
        let Drained {
            mut counts,
            unlisted,
            ..
        } = drained;
        counts.sort_by_key(|(_, counts, _)| counts.last_ns);
        let records = counts.into_iter().map(move |(key, counts, detail)| {
            let mut event =
                self.record(&key, &counts, detail.as_deref(), &clock, &legacy, &stack_of);
            if key.sketch != 0 {
                let flows = unlisted.get(&key.sketch).copied();
                event.flows_unlisted = Some(flows.unwrap_or(1));
                event.undecoded = None;
            }
            event
        });
        records.chain(losses)
    }

    fn record(
        &mut self,
        key: &Key,
        counts: &Counts,
        detail: Option<&Detail>,
        clock: &Clock,
        legacy: &HashMap<u64, xtables::Found>,
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
        let (mut reason, mut advice) =
            self.causes
                .reason(kind, key.cause.reason, location.as_ref(), &evidence);
        if kind == EventKind::Drop && detail.is_some_and(is_of_a_trial) {
            reason.class = Class::Benign;
            "another droptrace has tried out where this kernel keeps rules"
                .clone_into(&mut reason.summary);
            advice = None;
        }
        let r#where = Where {
            function: location.as_ref().map(|location| location.function.clone()),
            offset: location.as_ref().map(|location| location.offset),
            hook: detail
                .and_then(|detail| hook::name(&detail.hook))
                .map(ToOwned::to_owned),
            netns: (key.cause.netns != 0).then_some(key.cause.netns),
            ifname: self.ifname(key, detail),
            ifindex: (key.cause.ifindex != 0).then_some(key.cause.ifindex),
            stack: stack.above,
        };
        let function = location.as_ref().map(|at| plain_name(&at.function));
        let stage = hooks::stage(r#where.hook.as_deref(), function, &evidence.callers);
        let counted = legacy.get(&key.cause.rule);
        let decided = match counted.filter(|_| !self.is_of_another_engine(detail)) {
            Some(found) => Some((rule::of_xtables(found), rule::xtables_advice(found))),
            None => self
                .rule(key, detail, function, stage)
                .or_else(|| hook::queue(&location.as_ref()?.function)),
        };
        let (rule, look_up) = decided.unzip();
        let by_netfilter = function.is_some_and(|function| trial::FUNCTIONS.contains(&function));
        self.missed_a_rule |= by_netfilter && detail.is_some() && rule.is_none();
        let conntrack = detail.and_then(|detail| {
            let entry = conntrack::of(&detail.conntrack);
            let of_netfilter = by_netfilter || reason.name.as_deref() == Some(NETFILTER_DROP);
            if entry.is_some() || !of_netfilter {
                return entry;
            }
            let passed = self.hooks(detail).passed(stage);
            invalid::of(
                detail,
                evidence.signs,
                rule.as_ref(),
                passed,
                &mut self.conntrack,
            )
        });
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
            rule,
            r#where: Some(r#where),
            process,
            tcp: detail.and_then(packet::tcp),
            advice: invalid::with_advice(look_up.flatten().or(advice), conntrack.as_ref()),
            conntrack,
            packet: detail.and_then(packet::seen),
            undecoded: flow::undecoded(key),
            flows_unlisted: None,
            loss: None,
        }
    }

    /// The functions at the hooks that the kernel side saw.
    fn hooks(&mut self, detail: &Detail) -> Hooks {
        let mut names = |functions: &[u64; 5]| {
            let functions = functions.iter().filter(|address| **address != 0);
            // One byte into it.
            let names = functions.map(|address| self.causes.location(*address + 1));
            let plain = |found: Location| plain_name(&found.function).to_owned();
            names
                .map(|found| found.map_or_else(String::new, plain))
                .collect()
        };
        let [prerouting, output] = &detail.conntrack.words;
        Hooks {
            prerouting: names(prerouting),
            output: names(output),
        }
    }

    /// Whether the hook function that dropped the packet is known, and not one of
    /// xtables.
    fn is_of_another_engine(&self, detail: Option<&Detail>) -> bool {
        let by = detail.and_then(|detail| hook::of(&detail.hook, self.causes.symbols()));
        by.is_some_and(|(rule, _)| rule.engine != Engine::Iptables)
    }

    /// Whether a rule dropped a packet and was not found since the last call.
    pub fn missed_a_rule(&mut self) -> bool {
        std::mem::take(&mut self.missed_a_rule)
    }

    /// What decided, and how to look at it. `function` freed the packet.
    fn rule(
        &mut self,
        key: &Key,
        detail: Option<&Detail>,
        function: Option<&str>,
        stage: Option<Stage>,
    ) -> Option<(Rule, Option<String>)> {
        let detail = detail?;
        if detail.rule.is_known == 0 {
            let hooked = hook::of(&detail.hook, self.causes.symbols());
            if function != Some(tracked::FUNCTION) {
                return hooked;
            }
            let rule = hooked.as_ref().map(|(rule, _)| rule);
            let tracked = tracked::told(rule, detail, stage, &mut self.conntrack);
            return tracked
                .map(|(rule, advice)| (rule, Some(advice.to_owned())))
                .or(hooked);
        }
        let at = RuleAt {
            family: u8::try_from(detail.rule.family).ok()?,
            table: detail.rule.table,
            chain: detail.rule.chain,
            rule: detail.rule.rule,
            cookie: (detail.rule.cookie != 0).then_some(detail.rule.cookie),
            ns: detail.time_ns,
        };
        let found = self.rules.find(key.cause.netns, &at);
        let rule = rule::of(&at, found.as_ref());
        let advice = rule::advice(&rule, found.as_ref());
        Some((rule, advice))
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

/// Whether the packet is one that another droptrace sent to itself.
fn is_of_a_trial(detail: &Detail) -> bool {
    detail.mark == trial::MARK && detail.key.cause.direction == Direction::Local as u8
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

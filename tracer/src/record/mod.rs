//! From counts and details to records.

mod cause;
mod clock;
mod compare;
mod conntrack;
mod evidence;
mod fellows;
mod flow;
mod headers;
mod hook;
mod hooks;
mod icmp;
mod invalid;
mod means;
mod packet;
mod rule;
mod sighting;
mod tracked;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use droptrace_types::{Counts, Detail, Direction, Filter, Key, Kind};

pub use self::compare::Comparison;
use self::{
    cause::{Causes, Stack},
    clock::Clock,
    fellows::Fellows,
    hooks::{Hooks, Passed, Stage},
    sighting::Sightings,
};
use crate::{
    conntrack::Conntrack,
    conversation::Sighting,
    event::{
        Class, Engine, Event, EventKind, Loss, LossCause, LossOf, OtherRule, Rule, Via, Where,
    },
    kernel::{
        btf::Btf,
        interface,
        reasons::Reasons,
        symbols::{Location, Symbols},
    },
    nftrace::Traces,
    owner::{
        home::{Home, Homes},
        netns,
        sockets::{Sockets, Trace},
    },
    reason::{Signs, plain_name},
    rules::{Answer, ChainAt, RuleAt, RuleSets, trial},
    tracer::{Drained, Losses},
    xtables,
};

/// The kernel's reason for what netfilter dropped.
const NETFILTER_DROP: &str = "NETFILTER_DROP";

/// The function that goes through the rules of nftables.
const NFT_DO_CHAIN: &str = "nft_do_chain";

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
    conntrack: Conntrack,
    sightings: Sightings,
    /// Names of interfaces by namespace and index, from earlier details.
    names: HashMap<(u32, u32), String>,
    own_netns: u32,
    missed_a_rule: bool,
    by_nftables: ByNftables,
    /// That nobody was seen to decide means that a chain's policy did.
    trusts_policies: bool,
    /// Records whose rules are being read.
    waiting: Vec<Waiting>,
    /// Where the rules that several means name are compared.
    comparison: Option<Comparison>,
}

/// What else there is to name rules by.
struct Means<'a> {
    /// The xtables rules that keys name.
    legacy: HashMap<u64, xtables::Found>,
    traces: &'a Traces,
}

/// What nftables has dropped, as far as the hook function tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByNftables {
    /// Something.
    pub any: bool,
    /// Something of which neither rule nor policy was found.
    pub unnamed: bool,
    /// A packet was for a queue that did not take it, and who sent it there was not
    /// found: a rule of nftables or of iptables.
    pub queued: bool,
}

/// Call chains of one interval, each read and named once.
struct Stacks<F> {
    /// Gives the return addresses of a stack, by its number.
    addresses: F,
    /// By that number, and by who freed the packet.
    known: HashMap<(i32, u64), Stack>,
}

impl<F: Fn(i32) -> Vec<u64>> Stacks<F> {
    fn of(&mut self, detail: &Detail, causes: &Causes) -> Stack {
        let at = (detail.stack_id, detail.key.cause.location);
        let stack = self.known.entry(at);
        let stack = stack.or_insert_with(|| causes.stack(&(self.addresses)(at.0), at.1));
        stack.clone()
    }
}

/// A record that waits for the text of its rule.
struct Waiting {
    event: Event,
    detail: Box<Detail>,
    unexplained: Option<Unexplained>,
    netns: u32,
    at: RuleAt,
    via: Via,
    /// What another means says.
    other: Option<(Via, OtherRule)>,
    /// It was another packet's.
    is_inferred: bool,
    since: Instant,
    until: Instant,
}

/// What is known of a packet without a connection, of which the text of its rule
/// may say that it was invalid.
#[derive(Clone, Copy)]
struct Unexplained {
    signs: Signs,
    passed: Passed,
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
            conntrack: Conntrack::default(),
            sightings: Sightings::default(),
            names: HashMap::new(),
            own_netns: netns::own(),
            missed_a_rule: false,
            by_nftables: ByNftables::default(),
            trusts_policies: false,
            waiting: Vec::new(),
            comparison: None,
        }
    }

    /// Compares from now on the rules that several means name.
    pub fn compare_rules(&mut self) {
        self.comparison = Some(Comparison::default());
    }

    /// What that came to; `None` where nothing was to be compared.
    #[must_use]
    pub fn comparison(&self) -> Option<&Comparison> {
        self.comparison.as_ref()
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

    /// What was seen of conversations.
    pub fn sightings(
        &mut self,
        raw: &[droptrace_types::Sighting],
        filter: &Filter,
    ) -> Vec<Sighting> {
        let clock = Clock::now();
        self.sightings.make(raw, filter, &clock, &mut self.sockets)
    }

    /// Records of the ICMP errors among what was seen.
    pub fn icmp_errors(sightings: &[Sighting]) -> Vec<Event> {
        sightings.iter().filter_map(icmp::of).collect()
    }

    /// The records of one interval, oldest first, one at a time. `legacy` has the
    /// xtables rules that their keys name, `traces` what the trace told of them;
    /// `stack_of` gives the return addresses of a detail's stack.
    pub fn records<'a>(
        &'a mut self,
        drained: Drained,
        legacy: HashMap<u64, xtables::Found>,
        traces: &'a Traces,
        stack_of: impl Fn(i32) -> Vec<u64> + 'a,
    ) -> impl Iterator<Item = Event> + 'a {
        let told = self.told();
        let clock = Clock::now();
        let losses = losses(&drained.losses, &clock);
        let means = Means { legacy, traces };
        let Drained {
            mut counts,
            unlisted,
            ..
        } = drained;
        counts.sort_unstable_by_key(|(_, counts, _)| counts.last_ns);
        let fellows = Fellows::of(&counts);
        let mut stacks = Stacks {
            addresses: stack_of,
            known: HashMap::new(),
        };
        let records = counts.into_iter().filter_map(move |(key, counts, detail)| {
            let (mut event, at, unexplained) = self.record(
                &key,
                &counts,
                detail.as_deref(),
                &clock,
                &means,
                &mut stacks,
            );
            if key.sketch != 0 {
                let flows = unlisted.get(&key.sketch).copied();
                event.flows_unlisted = Some(flows.unwrap_or(1));
                event.undecoded = None;
            }
            match (at, detail) {
                (Some(at), Some(detail)) => {
                    let other = self.other(&at.0, &key, &detail, traces);
                    self.with_rule(event, at, other, detail, unexplained)
                }
                (None, None) => self.with_rule_of(fellows.find(&key), event, counts.last_ns),
                _ => Some(event),
            }
        });
        told.into_iter().chain(records).chain(losses)
    }

    /// Whether records wait for the text of their rules.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Since when the oldest of the records waits that wait for the text of their rules.
    #[must_use]
    pub fn waits_since(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.since).min()
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

    /// Adds the rule of another packet, dropped by the same, to the record of one that
    /// nobody has looked at closely.
    fn with_rule_of(&mut self, fellow: Option<&Detail>, event: Event, ns: u64) -> Option<Event> {
        let found = fellow.and_then(|fellow| Some((self.rule_at(fellow)?, fellow)));
        let Some(((at, via), fellow)) = found else {
            return Some(event);
        };
        let netns = event.r#where.as_ref().and_then(|place| place.netns);
        self.try_again(Waiting {
            event,
            detail: Box::new(*fellow),
            unexplained: None,
            netns: netns.unwrap_or(0),
            at: RuleAt { ns, ..at },
            via,
            other: None,
            is_inferred: true,
            since: Instant::now(),
            until: Instant::now() + PATIENCE,
        })
    }

    /// Adds the rule to a record; `None` if it has to wait for that.
    fn with_rule(
        &mut self,
        event: Event,
        (at, via): (RuleAt, Via),
        other: Option<(Via, OtherRule)>,
        detail: Box<Detail>,
        unexplained: Option<Unexplained>,
    ) -> Option<Event> {
        let netns = event.r#where.as_ref().and_then(|place| place.netns);
        self.try_again(Waiting {
            event,
            detail,
            unexplained,
            netns: netns.unwrap_or(0),
            at,
            via,
            other,
            is_inferred: false,
            since: Instant::now(),
            until: Instant::now() + PATIENCE,
        })
    }

    fn try_again(&mut self, waiting: Waiting) -> Option<Event> {
        let found = match self.rules.find(waiting.netns, &waiting.at) {
            Answer::Later(_)
                if self.waiting.len() < MAX_WAITING && Instant::now() < waiting.until =>
            {
                self.waiting.push(waiting);
                return None;
            }
            Answer::Now(found) | Answer::Later(found) => found,
        };
        let mut event = waiting.event;
        let (rule, look_up) = if means::is_confirmed(&waiting.at, waiting.via, found.as_ref()) {
            let mut rule = rule::of(&waiting.at, waiting.via, found.as_ref());
            rule.exact &= !waiting.is_inferred;
            if let (Some(comparison), Some((via, other))) = (&mut self.comparison, waiting.other) {
                comparison.add(&mut rule, via, other);
            }
            let look_up = rule::advice(&rule, found.as_ref());
            (rule, look_up)
        } else {
            match hook::of(&waiting.detail.hook, self.causes.symbols()) {
                Some(hooked) => hooked,
                None => return Some(event),
            }
        };
        if let Some(Unexplained { signs, passed }) = waiting.unexplained {
            let why = invalid::of(
                &waiting.detail,
                signs,
                Some(&rule),
                passed,
                &mut self.conntrack,
            );
            event.conntrack = why;
        }
        let function = event.r#where.as_ref().and_then(|at| at.function.as_deref());
        let advice = match (event.advice.take(), look_up) {
            // What is to be done is at the queue; the rule is as it should be.
            (Some(queue), Some(rule)) if function.is_some_and(hook::is_queue) => {
                Some(format!("{queue}; {rule}"))
            }
            (advice, look_up) => look_up.or(advice),
        };
        event.advice = invalid::with_advice(advice, event.conntrack.as_ref());
        event.rule = Some(rule);
        Some(event)
    }

    /// A record, the rule of nftables that it is still without, and what that may
    /// explain.
    fn record(
        &mut self,
        key: &Key,
        counts: &Counts,
        detail: Option<&Detail>,
        clock: &Clock,
        means: &Means<'_>,
        stacks: &mut Stacks<impl Fn(i32) -> Vec<u64>>,
    ) -> (Event, Option<(RuleAt, Via)>, Option<Unexplained>) {
        let kind = match Kind::from_u8(key.cause.kind) {
            Some(Kind::ResetSent) => EventKind::ResetSent,
            Some(Kind::ResetReceived) => EventKind::ResetReceived,
            Some(Kind::Retransmit) => EventKind::Retransmit,
            Some(Kind::Drop) | None => EventKind::Drop,
        };
        let location = self.causes.location(key.cause.location);
        let stack = detail.map_or_else(Stack::default, |detail| stacks.of(detail, &self.causes));
        let evidence = evidence::of(key, detail, &stack);
        let at = detail.and_then(|detail| {
            self.rule_at(detail).or_else(|| {
                let traced = self.traced(key, counts, detail, means.traces)?;
                Some((traced, Via::Trace))
            })
        });
        let waits_for_rule = at.is_some();
        let by_queue = location
            .as_ref()
            .is_some_and(|at| hook::is_queue(&at.function));
        self.by_nftables.queued |= by_queue && detail.is_some() && at.is_none();
        // A bridge frees for netfilter too, and for reasons of its own.
        let is_watched = !by_queue && at.as_ref().is_some_and(|(_, via)| *via == Via::Hook);
        let for_netfilter = is_watched.then(|| Location {
            function: tracked::FUNCTION.to_owned(),
            offset: 0,
        });
        let (mut reason, mut advice) = self.causes.reason(
            kind,
            key.cause.reason,
            for_netfilter.as_ref().or(location.as_ref()),
            &evidence,
        );
        if kind == EventKind::Drop && detail.is_some_and(is_of_a_trial) {
            reason.class = Class::Benign;
            "another droptrace has tried out where this kernel keeps rules"
                .clone_into(&mut reason.summary);
            advice = None;
        }
        let r#where = self.place(key, detail, location.as_ref(), stack.above);
        let function = location.as_ref().map(|at| plain_name(&at.function));
        let stage = hooks::stage(r#where.hook.as_deref(), function, &evidence.callers);
        let counted = means.legacy.get(&key.cause.rule);
        let decided = match counted.filter(|found| !self.is_of_another(found.family, detail)) {
            Some(found) => Some((rule::of_xtables(found), rule::xtables_advice(found))),
            None => self
                .decided(detail.filter(|_| !waits_for_rule), function, stage)
                .or_else(|| hook::queue(&location.as_ref()?.function).filter(|_| at.is_none())),
        };
        let (rule, look_up) = decided.unzip();
        if counted.is_some() && rule.is_some() && reason.class == Class::Unknown {
            // A bridge says nothing of why it dropped a frame.
            reason.class = Class::Policy;
            "a rule on the bridge dropped the frame".clone_into(&mut reason.summary);
        }
        let by_netfilter = function.is_some_and(|function| trial::FUNCTIONS.contains(&function));
        let is_missed = detail.is_some() && rule.is_none() && !waits_for_rule;
        self.missed_a_rule |= by_netfilter && is_missed;
        let mut conntrack = detail.and_then(|detail| conntrack::of(&detail.conntrack));
        let mut unexplained = None;
        let of_netfilter = by_netfilter || reason.name.as_deref() == Some(NETFILTER_DROP);
        if let Some(detail) = detail.filter(|_| conntrack.is_none() && of_netfilter) {
            let mut hooks = self.hooks(detail);
            if means.traces.has(key.cause.netns) {
                hooks.forget_first_chain();
            }
            let (signs, passed) = (evidence.signs, hooks.passed(stage));
            conntrack = invalid::of(detail, signs, rule.as_ref(), passed, &mut self.conntrack);
            let is_open = conntrack.is_none() && waits_for_rule;
            unexplained = is_open.then_some(Unexplained { signs, passed });
        }
        let mut advice = look_up.flatten().or(advice);
        if !waits_for_rule {
            advice = invalid::with_advice(advice, conntrack.as_ref());
        }
        let process = detail.and_then(|detail| self.sockets.owner(&Trace::of_packet(detail)));
        let event = Event {
            first_seen: clock.utc(counts.first_ns),
            flow: flow::of(key),
            packets: counts.packets,
            bytes: counts.bytes,
            reason: Some(reason),
            rule,
            r#where: Some(r#where),
            process,
            tcp: detail.and_then(packet::tcp),
            advice,
            conntrack,
            packet: detail.and_then(packet::seen),
            undecoded: flow::undecoded(key),
            ..Event::bare(kind, clock.utc(counts.last_ns))
        };
        (event, at, unexplained)
    }

    /// Where it was; `location` freed the packet, called by the functions of `above`.
    fn place(
        &mut self,
        key: &Key,
        detail: Option<&Detail>,
        location: Option<&Location>,
        above: Arc<[String]>,
    ) -> Where {
        let home = match key.cause.netns {
            0 => Home::default(),
            own if own == self.own_netns => Home::default(),
            netns => self.homes.of(netns),
        };
        Where {
            function: location.map(|location| location.function.clone()),
            offset: location.map(|location| location.offset),
            hook: detail
                .and_then(|detail| hook::name(&detail.hook))
                .map(ToOwned::to_owned),
            netns: (key.cause.netns != 0).then_some(key.cause.netns),
            netns_name: home.name,
            container: home.container,
            ifname: self.ifname(key, detail),
            ifindex: (key.cause.ifindex != 0).then_some(key.cause.ifindex),
            stack: above,
        }
    }

    /// The rule of nftables that the trace names, where all packets of the record
    /// were certainly dropped by it.
    fn traced(
        &mut self,
        key: &Key,
        counts: &Counts,
        detail: &Detail,
        traces: &Traces,
    ) -> Option<RuleAt> {
        let freed_by = self.causes.location(key.cause.location);
        let is_by_rule = freed_by.is_some_and(|at| plain_name(&at.function) == NFT_DO_CHAIN);
        let hooked = || hook::of(&detail.hook, self.causes.symbols());
        if !is_by_rule && hooked().is_none_or(|(rule, _)| rule.engine != Engine::Nft) {
            return None;
        }
        let place = match counts.packets {
            1 => traces
                .of_packet(detail, headers::transport_of(detail))
                .or_else(|| traces.of_all(key)),
            _ => traces.of_all(key),
        }?;
        Some(RuleAt {
            family: place.family,
            chain: ChainAt::Names {
                table: place.table.clone(),
                chain: place.chain.clone(),
            },
            rule: place.rule,
            cookie: None,
            ns: detail.time_ns,
        })
    }

    /// What another means than the one that named the rule says of the packet.
    fn other(
        &self,
        at: &RuleAt,
        key: &Key,
        detail: &Detail,
        traces: &Traces,
    ) -> Option<(Via, OtherRule)> {
        let is_traced = matches!(at.chain, ChainAt::Names { .. });
        if self.comparison.is_none() || is_traced {
            return None;
        }
        let place = traces
            .of_packet(detail, headers::transport_of(detail))
            .or_else(|| traces.of_all(key))?;
        Some((Via::Trace, compare::traced(place)))
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

    /// Whether the hook function that dropped the packet is known, and is none that
    /// walks over tables of this family.
    fn is_of_another(&self, family: xtables::Family, detail: Option<&Detail>) -> bool {
        let by = detail.and_then(|detail| hook::of(&detail.hook, self.causes.symbols()));
        by.is_some_and(|(rule, _)| rule.engine != rule::engine_of(family))
    }

    /// Whether a rule dropped a packet and was not found since the last call.
    pub fn missed_a_rule(&mut self) -> bool {
        std::mem::take(&mut self.missed_a_rule)
    }

    /// What nftables has dropped since the last call.
    pub fn by_nftables(&mut self) -> ByNftables {
        std::mem::take(&mut self.by_nftables)
    }

    /// Whether all that decides is watched, so that where nothing was seen to, a
    /// policy did.
    pub fn trust_policies(&mut self, trust: bool) {
        self.trusts_policies = trust;
    }

    /// The rule of nftables that decided, by its numbers, and how it was found.
    fn rule_at(&mut self, detail: &Detail) -> Option<(RuleAt, Via)> {
        let hooked = hook::of(&detail.hook, self.causes.symbols());
        let by = hooked.map(|(rule, _)| rule.engine);
        let told = means::tell(detail, by, self.trusts_policies, self.comparison.as_mut());
        let is_hook = |(_, via): &(RuleAt, Via)| *via == Via::Hook;
        let is_by_nftables = by == Some(Engine::Nft);
        self.by_nftables.any |= is_by_nftables || told.as_ref().is_some_and(is_hook);
        self.by_nftables.unnamed |= is_by_nftables && told.is_none();
        told
    }

    /// Who decided where no rule of nftables is known, and how to look at it.
    /// `function` freed the packet.
    fn decided(
        &mut self,
        detail: Option<&Detail>,
        function: Option<&str>,
        stage: Option<Stage>,
    ) -> Option<(Rule, Option<String>)> {
        let detail = detail?;
        let hooked = hook::of(&detail.hook, self.causes.symbols());
        if function != Some(tracked::FUNCTION) {
            return hooked;
        }
        let rule = hooked.as_ref().map(|(rule, _)| rule);
        let tracked = tracked::told(rule, detail, stage, &mut self.conntrack);
        tracked
            .map(|(rule, advice)| (rule, Some(advice.to_owned())))
            .or(hooked)
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
        (LossOf::Sightings, RingFull, losses.sightings, 0),
    ]
    .into_iter()
    .filter(|(_, _, count, _)| *count > 0)
    .map(|(what, why, count, bytes)| Event {
        packets: if what == Packets { count } else { 0 },
        bytes,
        loss: Some(Loss { what, why, count }),
        ..Event::bare(EventKind::Loss, clock.utc_now())
    })
    .collect()
}

//! A record as a log record of OpenTelemetry.
//!
//! Names of attributes are those of OpenTelemetry's semantic conventions where it has
//! one that means the same, and begin with `droptrace.` elsewhere; `docs/otlp.md`
//! has the table.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
};
use serde::Serialize;

use crate::{
    event::{
        Class, Conntrack, Direction, Event, EventKind, Flow, LossOf, Outcome, Process, Reason,
        Rule, Tcp, Verdict, Where,
    },
    output,
};

/// The log record of a spooled line.
#[must_use]
pub fn log_record(line: &[u8]) -> LogRecord {
    match serde_json::from_slice::<Event>(line) {
        Ok(event) => of_event(&event),
        // Of another version of this program: as it is, before it is lost.
        Err(_) => LogRecord {
            body: Some(text(String::from_utf8_lossy(line).trim_end())),
            event_name: "droptrace.record".to_owned(),
            severity_number: SeverityNumber::Info.into(),
            severity_text: "INFO".to_owned(),
            ..LogRecord::default()
        },
    }
}

fn of_event(event: &Event) -> LogRecord {
    let severity = severity(event);
    let seen = nanoseconds(&event.time);
    LogRecord {
        time_unix_nano: seen,
        observed_time_unix_nano: seen,
        severity_number: severity.into(),
        severity_text: severity
            .as_str_name()
            .trim_start_matches("SEVERITY_NUMBER_")
            .to_owned(),
        body: Some(text(&sentence(event))),
        attributes: attributes(event),
        event_name: format!("droptrace.{}", name(&event.kind)),
        ..LogRecord::default()
    }
}

/// How much it matters: what an operator wants to be woken by is no question of the
/// record alone, so nothing is an error.
fn severity(event: &Event) -> SeverityNumber {
    let quiet = match event.kind {
        EventKind::Retransmit => return SeverityNumber::Debug,
        EventKind::Verdict => event
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.outcome == Outcome::Connected),
        EventKind::Loss => event
            .loss
            .as_ref()
            .is_some_and(|loss| matches!(loss.what, LossOf::Details | LossOf::Sightings)),
        EventKind::ResetSent
        | EventKind::ResetReceived
        | EventKind::IcmpSent
        | EventKind::IcmpReceived => true,
        EventKind::Drop => match event.reason.as_ref().map(|reason| reason.class) {
            Some(Class::Benign) => return SeverityNumber::Debug,
            Some(
                Class::Policy
                | Class::NoListener
                | Class::Malformed
                | Class::Protocol
                | Class::Peer,
            ) => true,
            _ => false,
        },
    };
    if quiet {
        SeverityNumber::Info
    } else {
        SeverityNumber::Warn
    }
}

/// What happened, for a person.
fn sentence(event: &Event) -> String {
    if let Some(verdict) = &event.verdict {
        return verdict.explanation.clone();
    }
    if let Some(loss) = &event.loss {
        return format!("{} {}", loss.count, output::loss(loss.what, loss.why));
    }
    let what = match event.kind {
        EventKind::Drop => "dropped",
        EventKind::ResetSent => "reset sent",
        EventKind::ResetReceived => "reset received",
        EventKind::Retransmit => "sent again",
        EventKind::IcmpSent => "ICMP error sent",
        EventKind::IcmpReceived => "ICMP error received",
        EventKind::Verdict => "verdict",
        EventKind::Loss => "lost",
    };
    let packets = match event.packets {
        1 => "1 packet".to_owned(),
        packets => format!("{packets} packets"),
    };
    let flow = event.flow.as_ref().map_or_else(String::new, |flow| {
        let (src, dst) = (end(flow.src, flow.sport), end(flow.dst, flow.dport));
        format!(" {} {src} -> {dst}", flow.proto)
    });
    match &event.reason {
        Some(reason) => format!("{what}: {packets}{flow}: {}", reason.summary),
        None => format!("{what}: {packets}{flow}"),
    }
}

fn end(address: std::net::IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

/// Collects attributes; what is not known has none.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Option<AnyValue>) {
        if value.is_some() {
            self.0.push(KeyValue {
                key: key.to_owned(),
                value,
                ..KeyValue::default()
            });
        }
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        self.put(key, value.map(text));
    }

    fn number(&mut self, key: &str, value: Option<impl TryInto<i64>>) {
        let value = value.map(|value| Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
        self.put(key, value.map(|value| AnyValue { value: Some(value) }));
    }

    fn flag(&mut self, key: &str, value: bool) {
        let value = AnyValue {
            value: Some(Value::BoolValue(value)),
        };
        self.put(key, Some(value));
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        if !values.is_empty() {
            let values = values.iter().map(|value| text(value)).collect();
            let value = AnyValue {
                value: Some(Value::ArrayValue(ArrayValue { values })),
            };
            self.put(key, Some(value));
        }
    }
}

fn attributes(event: &Event) -> Vec<KeyValue> {
    let mut to = Attributes::default();
    to.text("droptrace.kind", Some(&name(&event.kind)));
    to.number("droptrace.packets", Some(event.packets));
    to.number("droptrace.bytes", Some(event.bytes));
    to.number("droptrace.seq", event.seq);
    to.text("droptrace.boot_id", event.boot_id.as_deref());
    to.text("droptrace.first_seen", Some(&event.first_seen));
    to.text("droptrace.advice", event.advice.as_deref());
    to.number("droptrace.flows_unlisted", event.flows_unlisted);
    if let Some(flow) = &event.flow {
        flow_of(&mut to, flow);
    }
    if let Some(reason) = &event.reason {
        reason_of(&mut to, reason);
    }
    if let Some(rule) = &event.rule {
        rule_of(&mut to, rule);
    }
    if let Some(place) = &event.r#where {
        place_of(&mut to, place);
    }
    if let Some(process) = &event.process {
        process_of(&mut to, process);
    }
    let container = event
        .process
        .as_ref()
        .and_then(|process| process.container.as_deref())
        .or_else(|| {
            event
                .r#where
                .as_ref()
                .and_then(|it| it.container.as_deref())
        });
    to.text("container.id", container);
    if let Some(conntrack) = &event.conntrack {
        conntrack_of(&mut to, conntrack);
    }
    if let Some(tcp) = &event.tcp {
        tcp_of(&mut to, tcp);
    }
    if let Some(packet) = &event.packet {
        to.number("droptrace.packet.len", Some(packet.len));
        to.number("droptrace.packet.mark", Some(packet.mark));
        to.number("droptrace.packet.ttl", packet.ttl);
        to.text("droptrace.packet.headers", packet.headers.as_deref());
    }
    if let Some(undecoded) = &event.undecoded {
        to.text("droptrace.undecoded.why", Some(&name(&undecoded.why)));
        to.text(
            "droptrace.undecoded.ethertype",
            undecoded.ethertype.as_deref(),
        );
        to.text("droptrace.undecoded.socket", undecoded.socket.as_deref());
    }
    if let Some(loss) = &event.loss {
        to.text("droptrace.loss.what", Some(&name(&loss.what)));
        to.text("droptrace.loss.why", Some(&name(&loss.why)));
        to.number("droptrace.loss.count", Some(loss.count));
    }
    if let Some(verdict) = &event.verdict {
        verdict_of(&mut to, verdict);
    }
    to.0
}

fn flow_of(to: &mut Attributes, flow: &Flow) {
    to.text("network.type", Some(&name(&flow.family)));
    to.text("network.transport", Some(&flow.proto));
    to.text("source.address", Some(&flow.src.to_string()));
    to.number("source.port", flow.sport);
    to.text("destination.address", Some(&flow.dst.to_string()));
    to.number("destination.port", flow.dport);
    // The convention knows these two; the other ways are no way of an interface.
    to.text(
        "network.io.direction",
        match flow.direction {
            Some(Direction::In) => Some("receive"),
            Some(Direction::Out) => Some("transmit"),
            Some(Direction::Forward | Direction::Local) | None => None,
        },
    );
    to.text(
        "droptrace.direction",
        flow.direction.map(|it| name(&it)).as_deref(),
    );
    to.number("droptrace.vlan", flow.vlan);
    if flow.fragment {
        to.flag("droptrace.fragment", true);
    }
    to.number("droptrace.icmp.type", flow.icmp.map(|icmp| icmp.r#type));
    to.number("droptrace.icmp.code", flow.icmp.map(|icmp| icmp.code));
    if let Some(about) = &flow.about {
        to.text("droptrace.about.transport", Some(&about.proto));
        to.text(
            "droptrace.about.source.address",
            Some(&about.src.to_string()),
        );
        to.number("droptrace.about.source.port", about.sport);
        to.text(
            "droptrace.about.destination.address",
            Some(&about.dst.to_string()),
        );
        to.number("droptrace.about.destination.port", about.dport);
    }
}

fn reason_of(to: &mut Attributes, reason: &Reason) {
    to.text("droptrace.reason.name", reason.name.as_deref());
    to.number("droptrace.reason.code", reason.code);
    to.text("droptrace.reason.subsystem", Some(&reason.subsystem));
    to.text("droptrace.reason.class", Some(&name(&reason.class)));
    to.text("droptrace.reason.summary", Some(&reason.summary));
    if reason.derived {
        to.flag("droptrace.reason.derived", true);
    }
}

fn rule_of(to: &mut Attributes, rule: &Rule) {
    to.text("droptrace.rule.engine", Some(&name(&rule.engine)));
    to.text("droptrace.rule.family", rule.family.as_deref());
    to.text("droptrace.rule.table", rule.table.as_deref());
    to.text("droptrace.rule.chain", rule.chain.as_deref());
    to.texts("droptrace.rule.path", &rule.path);
    to.number("droptrace.rule.handle", rule.handle);
    to.number("droptrace.rule.number", rule.number);
    to.number("droptrace.rule.position", rule.position);
    to.text("droptrace.rule.text", rule.text.as_deref());
    to.text("droptrace.rule.iptables", rule.iptables.as_deref());
    to.text("droptrace.rule.comment", rule.comment.as_deref());
    to.text("droptrace.rule.verdict", rule.verdict.as_deref());
    if rule.policy {
        to.flag("droptrace.rule.policy", true);
    }
    to.text("droptrace.rule.function", rule.function.as_deref());
    to.text("droptrace.rule.module", rule.module.as_deref());
    to.number("droptrace.rule.prog_id", rule.prog_id);
    to.text("droptrace.rule.name", rule.name.as_deref());
    to.text("droptrace.rule.via", Some(&name(&rule.via)));
    to.flag("droptrace.rule.exact", rule.exact);
}

fn place_of(to: &mut Attributes, place: &Where) {
    to.text("network.interface.name", place.ifname.as_deref());
    to.number("droptrace.interface.index", place.ifindex);
    to.number("droptrace.netns.inode", place.netns);
    to.text("droptrace.netns.name", place.netns_name.as_deref());
    to.text("droptrace.kernel.function", place.function.as_deref());
    to.number("droptrace.kernel.offset", place.offset);
    to.text("droptrace.kernel.hook", place.hook.as_deref());
    to.texts("droptrace.kernel.stack", &place.stack);
}

fn process_of(to: &mut Attributes, process: &Process) {
    to.number("process.pid", Some(process.pid));
    to.text("process.executable.name", Some(&process.comm));
    to.number("process.user.id", Some(process.uid));
    to.text("process.linux.cgroup", process.cgroup.as_deref());
}

fn conntrack_of(to: &mut Attributes, conntrack: &Conntrack) {
    to.text("droptrace.conntrack.state", Some(&conntrack.state));
    to.text(
        "droptrace.conntrack.tcp_state",
        conntrack.tcp_state.as_deref(),
    );
    if let Some(invalid) = &conntrack.invalid {
        to.text("droptrace.conntrack.invalid.why", Some(&name(&invalid.why)));
        to.text("droptrace.conntrack.invalid.text", Some(&invalid.text));
    }
}

fn tcp_of(to: &mut Attributes, tcp: &Tcp) {
    to.text("droptrace.tcp.flags", tcp.flags.as_deref());
    to.number("droptrace.tcp.seq", tcp.seq);
    to.number("droptrace.tcp.ack", tcp.ack);
    to.text("droptrace.tcp.state", tcp.state.as_deref());
}

fn verdict_of(to: &mut Attributes, verdict: &Verdict) {
    to.text("droptrace.verdict.outcome", Some(&name(&verdict.outcome)));
    to.text("droptrace.verdict.code", Some(&name(&verdict.code)));
    to.text(
        "droptrace.verdict.confidence",
        Some(&name(&verdict.confidence)),
    );
    to.number(
        "droptrace.verdict.conversations",
        Some(verdict.conversations),
    );
    to.number("droptrace.verdict.affected", Some(verdict.affected));
    to.texts("droptrace.verdict.evidence", &verdict.evidence);
}

/// The name that JSON has for it.
fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A text as a value.
pub(super) fn text(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text.to_owned())),
    }
}

/// A time of a record; 0, which says "not known", for what is none.
fn nanoseconds(time: &str) -> u64 {
    time.parse::<Timestamp>()
        .ok()
        .and_then(|time| u64::try_from(time.as_nanosecond()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(record: &'a LogRecord, key: &str) -> Option<&'a Value> {
        record
            .attributes
            .iter()
            .find(|attribute| attribute.key == key)?
            .value
            .as_ref()?
            .value
            .as_ref()
    }

    fn string(text: &str) -> Value {
        Value::StringValue(text.to_owned())
    }

    #[test]
    fn a_drop_has_the_names_of_the_conventions() {
        let line = br#"{"schema":"droptrace.event/1","kind":"drop",
            "time":"2026-01-02T03:04:05.000000006Z","first_seen":"2026-01-02T03:04:04.000000000Z",
            "flow":{"family":"ipv6","proto":"tcp","src":"2001:db8::1","sport":40000,
                    "dst":"2001:db8::2","dport":443,"direction":"in"},
            "packets":3,"bytes":180,
            "reason":{"name":"NETFILTER_DROP","code":8,"subsystem":"core","class":"policy",
                      "summary":"A netfilter rule dropped it."},
            "rule":{"engine":"nft","family":"inet","table":"filter","chain":"input","handle":7,
                    "text":"tcp dport 443 drop","comment":null,"verdict":"drop",
                    "via":"hook","exact":true},
            "where":{"function":"nf_hook_slow","offset":1,"hook":"input","netns":4026531840,
                     "ifname":"eth0","ifindex":2},
            "process":{"pid":17,"comm":"nginx","uid":33,"cgroup":"/system.slice",
                       "container":"0123456789ab"},
            "conntrack":null,"tcp":null,"advice":null,"seq":41,
            "boot_id":"6f1c1c0e-0000-4000-8000-000000000000"}"#;
        let record = log_record(line);
        assert_eq!(record.event_name, "droptrace.drop");
        assert_eq!(record.severity_text, "INFO");
        assert_eq!(record.time_unix_nano, 1_767_323_045_000_000_006);
        assert_eq!(
            record.body,
            Some(text(
                "dropped: 3 packets tcp [2001:db8::1]:40000 -> [2001:db8::2]:443: A netfilter rule \
                 dropped it."
            ))
        );
        for (key, want) in [
            ("source.address", string("2001:db8::1")),
            ("source.port", Value::IntValue(40000)),
            ("destination.address", string("2001:db8::2")),
            ("destination.port", Value::IntValue(443)),
            ("network.transport", string("tcp")),
            ("network.type", string("ipv6")),
            ("network.interface.name", string("eth0")),
            ("network.io.direction", string("receive")),
            ("process.pid", Value::IntValue(17)),
            ("process.executable.name", string("nginx")),
            ("process.user.id", Value::IntValue(33)),
            ("process.linux.cgroup", string("/system.slice")),
            ("container.id", string("0123456789ab")),
            ("droptrace.packets", Value::IntValue(3)),
            ("droptrace.seq", Value::IntValue(41)),
            ("droptrace.reason.class", string("policy")),
            ("droptrace.rule.handle", Value::IntValue(7)),
            ("droptrace.rule.text", string("tcp dport 443 drop")),
        ] {
            assert_eq!(value(&record, key), Some(&want), "{key}");
        }
        assert_eq!(value(&record, "droptrace.rule.comment"), None);
    }

    #[test]
    fn a_loss_is_told_with_its_numbers() {
        let line = crate::daemon::spool::loss_line(
            crate::event::LossCause::SpoolFull,
            crate::daemon::line::Totals {
                records: 12,
                packets: u64::MAX,
                bytes: 9,
            },
            5,
            "b",
        )
        .unwrap();
        let record = log_record(line.as_bytes());
        assert_eq!(record.event_name, "droptrace.loss");
        assert_eq!(record.severity_text, "WARN");
        assert_eq!(
            value(&record, "droptrace.loss.count"),
            Some(&Value::IntValue(12))
        );
        assert_eq!(
            value(&record, "droptrace.loss.why"),
            Some(&string("spool_full"))
        );
        // OTLP has no larger number.
        assert_eq!(
            value(&record, "droptrace.packets"),
            Some(&Value::IntValue(i64::MAX))
        );
    }

    #[test]
    fn what_is_not_understood_goes_as_it_is() {
        let record = log_record(b"{\"schema\":\"droptrace.event/9\"}\n");
        assert_eq!(
            record.body,
            Some(text("{\"schema\":\"droptrace.event/9\"}"))
        );
    }
}

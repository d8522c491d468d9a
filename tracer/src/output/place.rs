//! Where it happened and whose packet it was, in words.

use std::fmt::Write as _;

use super::layout::Look;
use crate::event::{Class, Direction, Event, Process, Where};

/// The words that tell where: `in eth0`, `netns 4026532281`, `netns blue`, `nginx[812]`,
/// `nft_do_chain+0x4d2`.
pub(super) fn words(event: &Event, look: &Look) -> Vec<String> {
    let mut words = Vec::new();
    let direction = event.flow.as_ref().and_then(|flow| flow.direction);
    let place = event.r#where.as_ref();
    words.extend(interface(direction, place, look));
    if let Some(place) = place {
        let netns = place.netns.filter(|netns| Some(*netns) != look.netns);
        words.extend(netns.map(|netns| namespace(netns, place, look)));
        if event.rule.is_none() {
            let hook = place.hook.as_deref();
            words.extend(hook.map(|hook| format!("hook {}", look.safe(hook))));
        }
    }
    words.extend(event.process.as_ref().map(|p| process(p, look)));
    if let Some(tcp) = &event.tcp {
        words.extend(tcp.state.as_deref().map(|state| look.safe(state)));
    }
    if let Some(conntrack) = &event.conntrack {
        let invalid = conntrack.invalid.as_ref();
        let why = invalid.map_or_else(String::new, |why| {
            let probably = if why.exact { "" } else { "probably " };
            format!(": {probably}{}", look.safe(&why.text))
        });
        words.push(format!("ct {}{why}", look.safe(&conntrack.state)));
    }
    words.extend(place.and_then(|place| function(event, place, look)));
    words
}

fn namespace(netns: u32, place: &Where, look: &Look) -> String {
    let name = place.netns_name.as_ref().map(|name| look.safe(name));
    let name = name.unwrap_or_else(|| netns.to_string());
    match &place.container {
        Some(container) => format!("netns {name} ({})", look.safe(container)),
        None => format!("netns {name}"),
    }
}

fn interface(direction: Option<Direction>, place: Option<&Where>, look: &Look) -> Option<String> {
    let name = place.and_then(|place| match (&place.ifname, place.ifindex) {
        (Some(name), _) => Some(look.safe(name)),
        (None, index) => index.map(|index| format!("interface {index}")),
    });
    let direction = direction.map(|direction| match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Forward => "forward",
        Direction::Local => "local",
    });
    match (direction, name) {
        (Some(direction), Some(name)) => Some(format!("{direction} {name}")),
        (direction, name) => name.or(direction.map(Into::into)),
    }
}

fn process(process: &Process, look: &Look) -> String {
    let mut text = format!("{}[{}]", look.safe(&process.comm), process.pid);
    // A unit's name helps; a session's or a pod's path is noise beside it.
    let unit = process
        .cgroup
        .as_deref()
        .and_then(|path| path.rsplit('/').next());
    let unit = unit.filter(|unit| unit.ends_with(".service"));
    if let Some(home) = process.container.as_deref().or(unit) {
        let _ = write!(text, " ({})", look.safe(home));
    }
    text
}

fn function(event: &Event, place: &Where, look: &Look) -> Option<String> {
    let function = look.safe(place.function.as_deref()?);
    let is_cause = event
        .reason
        .as_ref()
        .is_none_or(|reason| reason.name.is_none() || reason.class == Class::Unknown);
    match place.offset {
        Some(offset) => Some(format!("{function}+{offset:#x}")),
        None if is_cause => None,
        None => Some(function),
    }
}

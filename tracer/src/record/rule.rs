//! The rule that decided, and how to look at it.

use std::path::Path;

use crate::{
    event::{AsOf, Engine, Rule, Via},
    rules::{self, ChainAt, Found, RuleAt},
    xtables,
};

/// A drop that an engine decided, of which no more is known.
pub fn by(engine: Engine) -> Rule {
    Rule {
        engine,
        family: None,
        table: None,
        chain: None,
        path: Vec::new(),
        table_handle: None,
        chain_handle: None,
        handle: None,
        number: None,
        position: None,
        text: None,
        iptables: None,
        comment: None,
        verdict: Some("drop".to_owned()),
        as_of: None,
        policy: false,
        function: None,
        module: None,
        prog_id: None,
        name: None,
        via: Via::Frame,
        exact: true,
        compared: Vec::new(),
    }
}

/// A rule of nftables, with what its rule set says of it.
pub fn of(at: &RuleAt, via: Via, found: Option<&Found>) -> Rule {
    let policy = at.rule == 0;
    let (names, handles) = match &at.chain {
        ChainAt::Handles { table, chain } => (None, Some([*table, *chain])),
        ChainAt::Names { table, chain } => (Some([table, chain]), None),
    };
    let [table, chain] = found
        .map(|found| [&found.table, &found.chain])
        .or(names)
        .map_or([None, None], |names| names.map(|name| Some(name.clone())));
    let handles = found.map(|found| found.handles).or(handles);
    let text = |of: fn(&Found) -> &Option<String>| found.and_then(|found| of(found).clone());
    Rule {
        family: rules::family_name(at.family)
            .map(ToOwned::to_owned)
            .or_else(|| found.map(|found| found.family.clone())),
        table,
        chain,
        path: found
            .and_then(|found| found.path.clone())
            .unwrap_or_default(),
        table_handle: handles.map(|[table, _]| table),
        chain_handle: handles.map(|[_, chain]| chain).filter(|chain| *chain != 0),
        handle: (!policy).then_some(at.rule),
        position: found.and_then(|found| found.position),
        text: text(|found| &found.text),
        iptables: text(|found| &found.iptables),
        comment: text(|found| &found.comment),
        verdict: if policy {
            Some("drop".to_owned())
        } else {
            text(|found| &found.verdict)
        },
        as_of: found.filter(|found| found.text.is_some()).map(|found| {
            if found.then {
                AsOf::Drop
            } else {
                AsOf::Reading
            }
        }),
        policy,
        via,
        ..by(Engine::Nft)
    }
}

/// Whose tables a family has.
pub const fn engine_of(family: xtables::Family) -> Engine {
    match family {
        xtables::Family::Ip | xtables::Family::Ip6 => Engine::Iptables,
        xtables::Family::Bridge => Engine::Ebtables,
    }
}

/// A rule of a legacy tool, whose counter had risen.
pub fn of_xtables(found: &xtables::Found) -> Rule {
    Rule {
        family: Some(found.family.name().to_owned()),
        table: Some(found.table.clone()),
        chain: Some(found.chain.clone()),
        number: found.number,
        text: found.text.clone(),
        comment: found.comment.clone(),
        verdict: Some(found.verdict.clone()),
        as_of: found.text.as_ref().map(|_| AsOf::Drop),
        policy: found.number.is_none(),
        via: if found.is_counted {
            Via::Counter
        } else {
            Via::Frame
        },
        exact: found.exact,
        ..by(engine_of(found.family))
    }
}

/// The command that lists it.
pub fn xtables_advice(found: &xtables::Found) -> Option<String> {
    let enter = enter(found.namespace.as_deref())?;
    let (table, chain) = (&found.table, &found.chain);
    let is_bridge = found.family == xtables::Family::Bridge;
    let listing = match is_name(table) && is_name(chain) {
        true if is_bridge => format!("-t {table} -L {chain} --Ln --Lc"),
        true => format!("-t {table} -vnL {chain} --line-numbers"),
        false if is_bridge => "-L".to_owned(),
        false => "-S".to_owned(),
    };
    let program = xtables::program(found.family);
    Some(format!("list it with: {enter}{program} {listing}"))
}

/// What to put before a command that is to run in a namespace.
fn enter(namespace: Option<&Path>) -> Option<String> {
    match namespace.map(Path::to_str) {
        None => Some(String::new()),
        Some(path) => {
            let path = path.filter(|path| is_plain(path))?;
            Some(format!("nsenter --net={path} "))
        }
    }
}

/// The command that lists it; `None` where its chain is not known by name.
pub fn advice(rule: &Rule, found: Option<&Found>) -> Option<String> {
    let found = found?;
    let enter = enter(found.namespace.as_deref())?;
    let (table, chain) = (&found.table, &found.chain);
    // Names of any other kind are no names to nft, or worse, to a shell.
    let listing = match rule.family.as_deref() {
        Some(family) if is_name(table) && is_name(chain) => {
            format!("chain {family} {table} {chain}")
        }
        _ => "ruleset".to_owned(),
    };
    Some(format!("list it with: {enter}nft -a list {listing}"))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && is_plain(name)
}

fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: RuleAt = RuleAt {
        family: 1,
        chain: ChainAt::Handles { table: 3, chain: 1 },
        rule: 5,
        cookie: None,
        ns: 0,
    };

    fn found(table: &str, chain: &str) -> Found {
        Found {
            family: "inet".into(),
            table: table.into(),
            chain: chain.into(),
            handles: [3, 1],
            path: Some(vec!["base".into(), chain.into()]),
            position: Some(2),
            text: Some("drop".into()),
            iptables: None,
            comment: None,
            verdict: Some("drop".into()),
            then: true,
            namespace: None,
        }
    }

    #[test]
    fn what_the_kernel_told_stays_where_the_rule_set_tells_nothing() {
        let rule = of(&AT, Via::Frame, None);
        assert_eq!(rule.family.as_deref(), Some("inet"));
        assert_eq!(
            (&rule.table, &rule.chain, &rule.text),
            (&None, &None, &None)
        );
        assert_eq!((rule.table_handle, rule.chain_handle), (Some(3), Some(1)));
        assert_eq!((rule.handle, rule.policy), (Some(5), false));
        assert_eq!(rule.verdict, None);
        assert_eq!(advice(&rule, None), None);
    }

    #[test]
    fn a_legacy_rule_is_of_the_tool_that_lists_it() {
        let mut found = xtables::Found {
            family: xtables::Family::Bridge,
            table: "nat".into(),
            chain: "I-port1".into(),
            number: Some(2),
            text: Some("-A I-port1 -j DROP".into()),
            comment: None,
            verdict: "drop".into(),
            exact: true,
            is_counted: true,
            namespace: None,
        };
        let rule = of_xtables(&found);
        assert_eq!((rule.engine, rule.via), (Engine::Ebtables, Via::Counter));
        assert_eq!((rule.number, rule.policy), (Some(2), false));
        assert_eq!(
            xtables_advice(&found).unwrap(),
            "list it with: ebtables-legacy -t nat -L I-port1 --Ln --Lc"
        );
        found.family = xtables::Family::Ip6;
        found.number = None;
        found.is_counted = false;
        let rule = of_xtables(&found);
        assert_eq!((rule.engine, rule.via), (Engine::Iptables, Via::Frame));
        assert!(rule.policy);
        assert_eq!(
            xtables_advice(&found).unwrap(),
            "list it with: ip6tables-legacy -t nat -vnL I-port1 --line-numbers"
        );
        found.chain = "$(reboot)".into();
        assert_eq!(
            xtables_advice(&found).unwrap(),
            "list it with: ip6tables-legacy -S"
        );
    }

    #[test]
    fn a_text_says_of_when_it_is() {
        let mut found = found("filter", "input");
        assert_eq!(of(&AT, Via::Frame, Some(&found)).as_of, Some(AsOf::Drop));
        found.then = false;
        assert_eq!(of(&AT, Via::Frame, Some(&found)).as_of, Some(AsOf::Reading));
        found.text = None;
        assert_eq!(of(&AT, Via::Frame, Some(&found)).as_of, None);
    }

    #[test]
    fn a_policy_has_no_handle() {
        let rule = of(&RuleAt { rule: 0, ..AT }, Via::Frame, None);
        assert_eq!((rule.handle, rule.policy), (None, true));
        assert_eq!(rule.verdict.as_deref(), Some("drop"));
    }

    #[test]
    fn the_advice_names_the_chain_and_the_way_into_its_namespace() {
        let mut found = found("filter", "in-put_1");
        let rule = of(&AT, Via::Frame, Some(&found));
        assert_eq!(
            advice(&rule, Some(&found)).unwrap(),
            "list it with: nft -a list chain inet filter in-put_1"
        );
        found.namespace = Some("/run/netns/blue".into());
        assert_eq!(
            advice(&rule, Some(&found)).unwrap(),
            "list it with: nsenter --net=/run/netns/blue nft -a list chain inet filter in-put_1"
        );
        found.namespace = Some("/run/netns/$(reboot)".into());
        assert_eq!(advice(&rule, Some(&found)), None);
    }

    #[test]
    fn the_advice_has_no_names_that_a_shell_would_run() {
        for name in ["$(reboot)", "a;b", "a b", "", "-f", "a\nb", "*", "ünïcode"] {
            let found = found("filter", name);
            let rule = of(&AT, Via::Frame, Some(&found));
            assert_eq!(
                advice(&rule, Some(&found)).unwrap(),
                "list it with: nft -a list ruleset"
            );
        }
    }
}

//! Answers from facts made up for them.

use droptrace_types::{ABSENT, Addresses, Config, ConntrackLayout};

use super::{
    Ability, Report, Row, Status,
    facts::{Facts, Netfilter, Processes, Tables, Types},
};
use crate::tracer::{CONVERSATION_TRACEPOINTS, Means, SEND_RESET, TRACEPOINTS, XT_PROGRAMS};

/// A kernel that offers everything, and root.
fn best() -> Facts {
    let by_tracepoint = |name| (name, Ok(Means::BtfTracepoint));
    let programs = TRACEPOINTS.map(by_tracepoint);
    let of_conversations = CONVERSATION_TRACEPOINTS.map(by_tracepoint);
    let run = XT_PROGRAMS.map(|name| (name, Ok(Means::RawTracepoint)));
    Facts {
        kernel: "6.18.1".to_owned(),
        obstacles: Vec::new(),
        types: Some(Types {
            config: Config {
                drop_has_reason: 1,
                drop_has_socket: 1,
                reset_has_reason: 1,
                page_size: 64,
                netfilter_drop: 12,
                ..Config::DEFAULT
            },
            addresses: Addresses {
                vmemmap_base: 1,
                nf_hook_slow: 1,
                ..Addresses::UNKNOWN
            },
            reasons: 127,
            tcp_drop_is_traced: true,
            has_conntrack: true,
            conntrack: Some(ConntrackLayout {
                is_known: 1,
                mark: 168,
                zone: 12,
                status: 128,
                original: 32,
                reply: 88,
                tcp_state: 224,
                ext: 176,
                ext_offset: 0,
                help_helper: ABSENT,
                helper_name: ABSENT,
            }),
            modules_have_btf: true,
            tables: Tables::Known,
            bridge_tables: Tables::Known,
            has_socket_cgroup: true,
            counts_skips: true,
        }),
        programs: [&programs[..], &of_conversations[..], &run[..]].concat(),
        sees_symbols: true,
        kptr_restrict: "1".to_owned(),
        processes: Processes::All,
        tracks_connections: true,
        has_cgroups: true,
        has_nft: true,
        netfilter: Ok(Netfilter {
            has_nftables: true,
            finds_rule: true,
            watches_rule: None,
            finds_function: true,
        }),
        has_kprobes: true,
        has_iptables: true,
        has_ebtables: true,
    }
}

/// One that knows neither reasons nor the receiving socket.
fn old() -> Facts {
    with_types(|types| {
        types.config = Config::DEFAULT;
        types.addresses = Addresses::UNKNOWN;
        types.reasons = 0;
        types.tcp_drop_is_traced = false;
        types.counts_skips = false;
    })
}

fn with_types(change: impl FnOnce(&mut Types)) -> Facts {
    let mut facts = best();
    facts.types.as_mut().map(change);
    facts
}

fn row(facts: &Facts, ability: Ability) -> Row {
    let rows = Report::from(facts).abilities;
    rows.into_iter().find(|row| row.ability == ability).unwrap()
}

/// Status, means and remedy of an ability.
#[track_caller]
fn expect(facts: &Facts, ability: Ability, status: Status, part: &str) {
    let row = row(facts, ability);
    assert_eq!(row.status, status, "{row:?}");
    let told = [&row.means, &row.remedy].map(|text| text.clone().unwrap_or_default());
    assert!(told.iter().any(|text| text.contains(part)), "{row:?}");
}

#[test]
fn every_ability_has_one_row() {
    let schema = schemars::schema_for!(Ability).to_value();
    let known = schema["oneOf"].as_array().unwrap().len();
    let mut abilities: Vec<Ability> = Report::from(&best())
        .abilities
        .iter()
        .map(|row| row.ability)
        .collect();
    assert_eq!(abilities.len(), known);
    abilities.sort_unstable();
    abilities.dedup();
    assert_eq!(abilities.len(), known);
}

#[test]
fn what_is_not_a_plain_yes_has_a_remedy() {
    let hidden = Facts {
        sees_symbols: false,
        processes: Processes::Own,
        tracks_connections: false,
        has_cgroups: false,
        ..old()
    };
    for facts in [best(), old(), hidden] {
        for row in Report::from(&facts).abilities {
            assert_eq!(row.remedy.is_some(), row.status != Status::Yes, "{row:?}");
            let has_means = row.means.is_some();
            assert!(has_means || row.status == Status::No, "{row:?}");
        }
    }
}

#[test]
fn the_best_kernel_gives_everything() {
    let report = Report::from(&best());
    assert!(report.can_trace);
    for row in report.abilities {
        assert_eq!(row.status, Status::Yes, "{row:?}");
    }
}

#[test]
fn netfilter_is_promised_as_far_as_the_trial_found_it() {
    let found = |has_nftables, finds_rule, finds_function| Facts {
        netfilter: Ok(Netfilter {
            has_nftables,
            finds_rule,
            watches_rule: (has_nftables && !finds_rule).then(|| Err("no trial".to_owned())),
            finds_function,
        }),
        ..best()
    };
    let (rule, hook) = (Ability::NetfilterRule, Ability::NetfilterHook);
    expect(&found(true, false, true), rule, Status::No, "no trial");
    expect(&found(true, false, true), hook, Status::Yes, "stack");
    expect(&found(true, true, false), rule, Status::Yes, "nft");
    expect(&found(true, true, false), hook, Status::No, "no occasion");
    expect(
        &found(false, false, false),
        rule,
        Status::Later,
        "not loaded",
    );
    expect(
        &found(false, false, false),
        hook,
        Status::Later,
        "not loaded",
    );
    let failed = Facts {
        netfilter: Err("no room".to_owned()),
        ..best()
    };
    expect(&failed, rule, Status::No, "no room");
    expect(&failed, hook, Status::No, "no room");
    let mut without_nft = best();
    without_nft.has_nft = false;
    expect(&without_nft, rule, Status::No, "install nftables");
}

#[test]
fn a_rule_that_nftables_has_left_is_seen_before() {
    let ability = Ability::NetfilterRule;
    let found = |has_nftables, has_kprobes, watches_rule| Facts {
        netfilter: Ok(Netfilter {
            has_nftables,
            finds_rule: false,
            watches_rule,
            finds_function: true,
        }),
        has_kprobes,
        ..old()
    };
    expect(
        &found(true, true, Some(Ok(()))),
        ability,
        Status::Yes,
        "kprobes",
    );
    let refused = Some(Err("no such function".to_owned()));
    expect(
        &found(true, true, refused),
        ability,
        Status::No,
        "no such function",
    );
    expect(
        &found(false, true, None),
        ability,
        Status::Later,
        "not loaded",
    );
    expect(
        &found(false, false, None),
        ability,
        Status::No,
        "no kprobes",
    );
}

#[test]
fn without_reasons_the_function_tells() {
    expect(
        &old(),
        Ability::DropReasons,
        Status::Partly,
        "derived from the function",
    );
    expect(&old(), Ability::ResetReasons, Status::No, "no reasons");
    expect(&old(), Ability::ProcessOfReceiver, Status::Partly, "stack");
    expect(
        &old(),
        Ability::ExactLossCount,
        Status::Yes,
        "skips no program",
    );
}

#[test]
fn what_tcp_drops_is_seen_where_it_passes_the_tracepoint() {
    expect(&best(), Ability::TcpOwnDrops, Status::Yes, "kfree_skb");
    expect(&old(), Ability::TcpOwnDrops, Status::No, "no tracepoint");
}

#[test]
fn resets_without_a_socket_take_the_functions_where_the_tracepoint_does_not_fire() {
    let ability = Ability::ResetsSentWithoutSocket;
    let [v4, v6] = SEND_RESET;
    let refused = || Err("Operation not permitted".to_owned());
    let mut facts = old();
    facts.programs.extend([(v4, refused()), (v6, refused())]);
    expect(&facts, ability, Status::No, "not permitted");
    facts.programs.truncate(TRACEPOINTS.len());
    facts
        .programs
        .extend([(v4, Ok(Means::Fentry)), (v6, refused())]);
    expect(&facts, ability, Status::Partly, "not over IPv6");
    facts.programs.truncate(TRACEPOINTS.len());
    facts
        .programs
        .extend([(v4, Ok(Means::Fentry)), (v6, Ok(Means::Fentry))]);
    expect(&facts, ability, Status::Yes, "fentry tcp_v4_send_reset");
}

#[test]
fn connections_come_with_the_module() {
    let unloaded = |types: fn(&mut Types)| Facts {
        tracks_connections: false,
        ..with_types(types)
    };
    let (state, entry) = (Ability::ConntrackState, Ability::ConntrackMarkAndZone);
    let later = unloaded(|types| types.conntrack = None);
    expect(&later, state, Status::Later, "nothing to restart");
    expect(&later, entry, Status::Later, "module's BTF");
    expect(&unloaded(|_| ()), entry, Status::Later, "nf_conn in BTF");
    let no_types = |types: &mut Types| {
        types.conntrack = None;
        types.modules_have_btf = false;
    };
    expect(&unloaded(no_types), state, Status::Later, "nf_conntrack");
    expect(&unloaded(no_types), entry, Status::No, "without BTF");
    expect(&with_types(no_types), entry, Status::No, "without BTF");
    let no_zone = |types: &mut Types| {
        types.conntrack = types.conntrack.map(|entry| ConntrackLayout {
            zone: ABSENT,
            ..entry
        });
    };
    expect(&with_types(no_zone), entry, Status::Partly, "ZONES");
    let none = |types: &mut Types| types.has_conntrack = false;
    expect(&with_types(none), entry, Status::No, "built without");
}

#[test]
fn hidden_symbols_are_explained() {
    let hidden = |kptr_restrict: &str| Facts {
        sees_symbols: false,
        kptr_restrict: kptr_restrict.to_owned(),
        ..with_types(|types| types.addresses = Addresses::UNKNOWN)
    };
    for ability in [Ability::FunctionNames, Ability::PagedHeaders] {
        expect(&hidden("1"), ability, Status::No, "CAP_SYSLOG");
        expect(&hidden("2"), ability, Status::No, "kptr_restrict=1");
    }
    let chain = Ability::CallChain;
    expect(&hidden("1"), chain, Status::Partly, "without names");
}

#[test]
fn legacy_rules_take_the_types_of_tables_and_have_text_by_a_program() {
    let ability = Ability::XtablesRule;
    let tables = |tables| with_types(|types| types.tables = tables);
    expect(&tables(Tables::Unknown), ability, Status::No, "without BTF");
    expect(
        &tables(Tables::NotLoaded),
        ability,
        Status::Later,
        "x_tables",
    );
    let no_program = Facts {
        has_iptables: false,
        ..best()
    };
    expect(&no_program, ability, Status::Partly, "by chain and number");
    let bridge = Ability::EbtablesRule;
    expect(&no_program, bridge, Status::Yes, "ebtables-legacy");
    let missing = with_types(|types| types.bridge_tables = Tables::Missing);
    expect(&missing, bridge, Status::No, "CONFIG_BRIDGE_NF_EBTABLES");
    expect(&missing, ability, Status::Yes, "iptables-legacy-save");
    let hidden = with_types(|types| types.addresses.nf_hook_slow = 0);
    expect(&hidden, ability, Status::No, "CAP_SYSLOG");
    let mut refused = best();
    refused.programs.pop();
    refused
        .programs
        .push((XT_PROGRAMS[1], Err("Permission denied".to_owned())));
    expect(&refused, ability, Status::No, "Permission denied");
}

#[test]
fn processes_of_others_take_a_capability_and_the_machines_namespace() {
    for (processes, part) in [
        (Processes::Own, "CAP_SYS_PTRACE"),
        (Processes::Inside, "--pid=host"),
    ] {
        let facts = Facts {
            processes,
            ..best()
        };
        expect(&facts, Ability::Process, Status::Partly, part);
        expect(&facts, Ability::ProcessOfReceiver, Status::Partly, part);
    }
}

#[test]
fn an_obstacle_denies_everything_and_says_what_would_be() {
    let obstacle = "CAP_BPF is missing".to_owned();
    let blocked = Facts {
        obstacles: vec![obstacle.clone()],
        ..best()
    };
    let report = Report::from(&blocked);
    assert!(!report.can_trace);
    let is_denied = |row: &Row| row.status == Status::No && row.remedy.is_some();
    assert!(report.abilities.iter().all(is_denied));
    let drops = row(&blocked, Ability::Drops);
    assert_eq!(drops.remedy, Some(obstacle));
    assert_eq!(drops.means.as_deref(), Some("BTF tracepoint kfree_skb"));
    let blind = Facts {
        types: None,
        ..blocked
    };
    expect(&blind, Ability::Drops, Status::No, "CAP_BPF");
}

#[test]
fn verdicts_take_the_program_for_states_and_those_for_packets() {
    let refused = |n: usize| {
        let mut facts = best();
        facts.programs[TRACEPOINTS.len() + n].1 = Err("Permission denied".to_owned());
        facts
    };
    let ability = Ability::Conversations;
    for packets in [0, 1] {
        expect(&refused(packets), ability, Status::Partly, "--verdicts all");
    }
    expect(&refused(2), ability, Status::No, "inet_sock_set_state");
}

//! From the text of `nft -a list ruleset` to the rules in it, by handle.
//!
//! The listing is made for people: names, comments and strings stand in it as
//! others chose them, line breaks and quotes included. Only its lines and their
//! indentation are trusted, and a table in which these do not add up (a handle
//! that stands there twice, a line where none belongs) is left out: no text is
//! better than one that somebody else made up.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    ChainAt, iptables,
    jumps::{Jumps, Ways},
};

/// What stands before a handle.
const HANDLE: &str = " # handle ";

/// A rule set.
#[derive(Debug, Default)]
pub struct Listing {
    tables: HashMap<(String, u64), Table>,
    /// The texts of the rules, one after the other.
    texts: String,
    has_maps: bool,
}

#[derive(Debug)]
struct Table {
    name: String,
    chains: HashMap<u64, Chain>,
    /// By handle, which is the rule's own in its table.
    rules: HashMap<u64, Place>,
    jumps: Jumps,
    /// What leads where, once all is read.
    ways: Ways,
    /// Something in it does not add up.
    doubtful: bool,
}

#[derive(Debug)]
struct Chain {
    name: String,
    /// `type filter hook input priority filter; policy drop;` of a base chain.
    base: Option<String>,
    rules: usize,
    /// As iptables prints it.
    iptables: Option<OfIptables>,
}

#[derive(Debug)]
struct OfIptables {
    policy: Option<String>,
    /// As many as the chain has.
    rules: Vec<Span>,
}

/// A part of the texts.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug)]
struct Place {
    chain: u64,
    index: u32,
    text: Span,
}

/// A chain of a rule set, and where one of its rules stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Family of the table.
    pub family: &'a str,
    /// Name of the table.
    pub table: &'a str,
    /// Name of the chain.
    pub chain: &'a str,
    /// The handles of both.
    pub handles: [u64; 2],
    /// The chains from a base chain to this one, if that is one way and not the
    /// base chain alone.
    pub path: Option<Vec<&'a str>>,
    /// What makes it a base chain.
    pub base: Option<&'a str>,
    /// The rule's position, from 1 on, and its text; `None` where the chain has
    /// no such rule.
    pub rule: Option<(usize, &'a str)>,
    /// The rule, or for a policy that, as iptables prints it.
    pub iptables: Option<&'a str>,
}

/// What a line belongs to.
enum Inside {
    Nothing,
    Table,
    /// A set, an object: anything but a chain and a map.
    Block,
    Map(String),
    Chain {
        handle: u64,
        /// The lines so far of what is not complete yet.
        begun: String,
    },
}

impl Listing {
    /// Reads what `nft -t -a list ruleset` prints.
    pub fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let mut inside = Inside::Nothing;
        let mut current = None;
        for line in text.split('\n') {
            inside = match (inside, &mut current) {
                (Inside::Nothing, _) => {
                    current = header(line, "table ").and_then(|(words, handle)| {
                        let (family, name) = words.split_once(' ')?;
                        Some(((family.to_owned(), handle), Table::named(name)))
                    });
                    current.as_ref().map_or(Inside::Nothing, |_| Inside::Table)
                }
                (Inside::Table, _) if line == "}" => {
                    listing.keep(current.take());
                    Inside::Nothing
                }
                (Inside::Table, Some((_, table))) => table.line(line),
                (Inside::Block | Inside::Map(_) | Inside::Chain { .. }, _) if line == "\t}" => {
                    Inside::Table
                }
                (Inside::Map(name), Some((_, table))) => {
                    if line.starts_with("\t\ttype") && line.ends_with(" : verdict") {
                        table.jumps.map(&name);
                    }
                    Inside::Map(name)
                }
                (Inside::Chain { handle, begun }, Some((_, table))) => {
                    let begun = table.line_of_chain(handle, begun, line, &mut listing.texts);
                    Inside::Chain { handle, begun }
                }
                (other, _) => other,
            };
        }
        listing
    }

    /// Keeps a table that has ended.
    fn keep(&mut self, table: Option<((String, u64), Table)>) {
        let Some((key, table)) = table else { return };
        match self.tables.entry(key) {
            Entry::Vacant(place) => {
                place.insert(table);
            }
            Entry::Occupied(mut first) => first.get_mut().doubtful = true,
        }
    }

    /// The maps of verdicts that rules look into, whose elements show where they
    /// lead: family, table, name.
    pub fn maps(&self) -> Vec<[String; 3]> {
        let tables = self.tables.iter();
        let maps = tables.flat_map(|((family, _), table)| {
            let of_table = |map: &str| [family, &table.name, map].map(ToOwned::to_owned);
            table.jumps.maps().into_iter().map(of_table)
        });
        maps.collect()
    }

    /// The elements of such a map, as `nft list map` prints them.
    pub fn add_elements(&mut self, [family, table, map]: &[String; 3], text: &str) {
        let elements = text
            .split_once("elements = {")
            .map_or("", |(_, elements)| elements);
        for ((of, _), found) in &mut self.tables {
            if of == family && found.name == *table {
                found.jumps.elements(map, elements);
            }
        }
    }

    /// Finds out what leads where, from all that was read.
    pub fn find_ways(&mut self) {
        for table in self.tables.values_mut() {
            self.has_maps |= !table.jumps.maps().is_empty();
            let chains = table.chains.iter();
            let names = chains
                .map(|(handle, chain)| (&*chain.name, *handle))
                .collect();
            table.ways = std::mem::take(&mut table.jumps).ways(&names);
        }
    }

    /// Whether elements of maps are among what was read.
    pub fn has_maps(&self) -> bool {
        self.has_maps
    }

    /// The families in which iptables-nft has tables.
    pub fn families_of_iptables(&self) -> Vec<&'static str> {
        let has_tables = |family: &&str| {
            let tables = self.tables.iter();
            let mut tables = tables.filter(|((of, _), _)| of == family);
            tables.any(|(_, table)| table.is_of_iptables(family))
        };
        ["ip", "ip6"].into_iter().filter(has_tables).collect()
    }

    /// The rules of a family as iptables-nft-save prints them. A chain in which it
    /// prints another number of rules than nft is left out.
    pub fn add_iptables(&mut self, family: &str, text: &str) {
        let saved = iptables::parse(text);
        let texts = &mut self.texts;
        for ((of, _), table) in &mut self.tables {
            let Some(saved) = saved.get(&*table.name) else {
                continue;
            };
            if of != family || !table.is_of_iptables(family) {
                continue;
            }
            for chain in table.chains.values_mut() {
                let rules = saved.rules.get(&*chain.name).map_or(&[][..], Vec::as_slice);
                chain.iptables = (rules.len() == chain.rules).then(|| OfIptables {
                    policy: saved.policies.get(&*chain.name).cloned(),
                    rules: rules.iter().map(|rule| push(texts, rule)).collect(),
                });
            }
        }
    }

    /// The chain and the rule of these handles; of a rule 0 the chain's policy. The
    /// table's and the rule's tell the rest, where no family or a chain 0 is given.
    pub fn find(
        &self,
        family: Option<&str>,
        table: u64,
        chain: u64,
        rule: u64,
    ) -> Option<Listed<'_>> {
        let ((family, table_handle), table) = match family {
            Some(family) => self.tables.get_key_value(&(family.to_owned(), table)),
            None => self.tables.iter().find(|((_, handle), _)| *handle == table),
        }
        .map(|((family, handle), table)| ((family, *handle), table))?;
        if table.doubtful {
            return None;
        }
        let at = table.rules.get(&rule);
        let at = at.filter(|at| chain == 0 || at.chain == chain);
        let chain = if chain == 0 { at?.chain } else { chain };
        let path = table.way_to(chain);
        let chain_handle = chain;
        let chain = table.chains.get(&chain)?;
        let iptables = chain.iptables.as_ref().and_then(|of| match at {
            Some(at) => self.text(*of.rules.get(at.index())?),
            None => of.policy.as_deref().filter(|_| rule == 0),
        });
        Some(Listed {
            family,
            table: &table.name,
            chain: &chain.name,
            handles: [table_handle, chain_handle],
            path,
            base: chain.base.as_deref(),
            rule: at.and_then(|at| Some((at.index() + 1, self.text(at.text)?))),
            iptables,
        })
    }

    /// The handles of a table and a chain.
    pub fn handles(&self, family: Option<&str>, at: &ChainAt) -> Option<[u64; 2]> {
        let (table, chain) = match at {
            ChainAt::Handles { table, chain } => return Some([*table, *chain]),
            ChainAt::Names { table, chain } => (table, chain),
        };
        let mut tables = self.tables.iter();
        let ((_, handle), table) =
            tables.find(|((of, _), found)| Some(&**of) == family && found.name == *table)?;
        let mut chains = table.chains.iter();
        let (chain, _) = chains.find(|(_, found)| found.name == *chain)?;
        Some([*handle, *chain])
    }

    fn text(&self, span: Span) -> Option<&str> {
        let at = |place: u32| usize::try_from(place).ok();
        self.texts.get(at(span.start)?..at(span.end)?)
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        let tables = self.tables.values();
        let parts = tables.map(|table| {
            let of_iptables = table
                .chains
                .values()
                .filter_map(|chain| chain.iptables.as_ref());
            // A table of the standard library is half empty at worst.
            2 * (table.rules.len() * size_of::<(u64, Place)>()
                + table.chains.len() * size_of::<(u64, Chain)>())
                + of_iptables
                    .map(|of| of.rules.len() * size_of::<Span>())
                    .sum::<usize>()
                + table.ways.size()
        });
        self.texts.capacity() + parts.sum::<usize>()
    }
}

/// Adds a text to the others.
fn push(texts: &mut String, text: &str) -> Span {
    let place = |texts: &String| u32::try_from(texts.len()).unwrap_or(u32::MAX);
    let start = place(texts);
    texts.push_str(text);
    Span {
        start,
        end: place(texts),
    }
}

impl Place {
    fn index(&self) -> usize {
        usize::try_from(self.index).unwrap_or(usize::MAX)
    }
}

impl Table {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            chains: HashMap::new(),
            rules: HashMap::new(),
            jumps: Jumps::default(),
            ways: Ways::default(),
            doubtful: false,
        }
    }

    fn is_of_iptables(&self, family: &str) -> bool {
        let chains = self.chains.values();
        let base = chains.filter_map(|chain| chain.base.as_ref().map(|_| &*chain.name));
        !self.doubtful && iptables::is_own(family, &self.name, base)
    }

    /// The names of the chains on the way to a chain.
    fn way_to(&self, chain: u64) -> Option<Vec<&str>> {
        let of = |chain| self.chains.get(&chain);
        let is_base = |chain| of(chain).is_some_and(|chain| chain.base.is_some());
        let way = self.ways.to(chain, is_base)?;
        let names = way.into_iter().map(|chain| Some(&*of(chain)?.name));
        names
            .collect::<Option<Vec<_>>>()
            .filter(|way| way.len() > 1)
    }

    /// A line of the table itself.
    fn line(&mut self, line: &str) -> Inside {
        if let Some((name, handle)) = header(line, "\tchain ") {
            let chain = Chain {
                name: name.to_owned(),
                base: None,
                rules: 0,
                iptables: None,
            };
            self.doubtful |= self.chains.insert(handle, chain).is_some();
            return Inside::Chain {
                handle,
                begun: String::new(),
            };
        }
        if let Some((name, _)) = header(line, "\tmap ") {
            return Inside::Map(name.to_owned());
        }
        self.doubtful |= !line.is_empty() && !line.starts_with('\t');
        if line.ends_with(" {") || header(line, "\t").is_some() {
            Inside::Block
        } else {
            Inside::Table
        }
    }

    /// A line of a chain, after what was `begun` by lines before it; gives back
    /// what is not complete yet.
    fn line_of_chain(
        &mut self,
        chain: u64,
        mut begun: String,
        line: &str,
        texts: &mut String,
    ) -> String {
        if begun.is_empty() {
            self.doubtful |= !line.starts_with("\t\t");
        } else {
            begun.push(' ');
        }
        begun.push_str(line.trim_start_matches('\t').trim_start_matches(' '));
        let Some(properties) = self.chains.get_mut(&chain) else {
            return String::new();
        };
        if let Some((text, handle)) = handle_at_end(&begun) {
            let place = Place {
                chain,
                index: u32::try_from(properties.rules).unwrap_or(u32::MAX),
                text: push(texts, text),
            };
            properties.rules += 1;
            self.doubtful |= self.rules.insert(handle, place).is_some();
            self.jumps.rule(chain, text);
            return String::new();
        }
        if properties.rules > 0 {
            return begun;
        }
        if begun.starts_with("type ") && begun.ends_with(';') {
            properties.base = Some(begun);
            return String::new();
        }
        if begun.starts_with("comment \"") && begun.ends_with('"') {
            return String::new();
        }
        begun
    }
}

/// What stands between `prefix` and ` { # handle N`.
fn header<'a>(line: &'a str, prefix: &str) -> Option<(&'a str, u64)> {
    let (words, handle) = handle_at_end(line)?;
    Some((words.strip_prefix(prefix)?.strip_suffix(" {")?, handle))
}

fn handle_at_end(line: &str) -> Option<(&str, u64)> {
    let (text, handle) = line.rsplit_once(HANDLE)?;
    Some((text, handle.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = include_str!("../../../tests/fixtures/nft_ruleset.txt");
    const OF_IPTABLES: &str = include_str!("../../../tests/fixtures/nft_ruleset_of_iptables.txt");
    const WITH_SAVED: &str =
        include_str!("../../../tests/fixtures/nft_ruleset_of_iptables_saved.txt");
    const SAVED: &str = include_str!("../../../tests/fixtures/iptables_nft_save.txt");
    const FORGED: &str = include_str!("../../../tests/fixtures/nft_ruleset_forged.txt");

    /// Names, position and text of a rule.
    fn at(text: &str, family: &str, handles: [u64; 3]) -> Option<String> {
        let listing = Listing::parse(text);
        let [table, chain, rule] = handles;
        let found = listing.find(Some(family), table, chain, rule)?;
        let (position, text) = found.rule?;
        Some(format!(
            "{} {} {position}: {text}",
            found.table, found.chain
        ))
    }

    #[test]
    fn rules_of_every_family_are_found() {
        for (family, handles, expected) in [
            (
                "ip",
                [1, 1, 12],
                "filter4 deep 2: tcp dport 8080 reject with tcp reset",
            ),
            ("ip", [1, 3, 26], "filter4 input 8: limit name \"lim\" drop"),
            (
                "ip6",
                [2, 1, 2],
                "filter6 forward 1: ip6 saddr fd00::/8 drop",
            ),
            ("inet", [3, 1, 5], "both input 3: meta nfproto ipv6 drop"),
            ("bridge", [4, 1, 2], "br bfwd 1: ether type arp drop"),
            ("netdev", [5, 2, 4], "nd eg 1: tcp dport 81 drop"),
            ("arp", [6, 1, 2], "a in 1: arp operation request drop"),
        ] {
            assert_eq!(at(NATIVE, family, handles).as_deref(), Some(expected));
        }
    }

    #[test]
    fn two_identical_rules_have_their_own_positions() {
        let text = "tcp dport 77 drop comment \"same twice\"";
        for (handle, position) in [(33, 14), (34, 15)] {
            let expected = format!("filter4 input {position}: {text}");
            assert_eq!(at(NATIVE, "ip", [1, 3, handle]), Some(expected));
        }
    }

    #[test]
    fn sets_and_objects_are_no_rules() {
        // The set `many`, the limit, the handle in the set's comment.
        for handle in [8, 6, 77] {
            assert_eq!(at(NATIVE, "ip", [1, 3, handle]), None);
        }
    }

    #[test]
    fn strings_may_look_like_something_else() {
        assert_eq!(
            at(NATIVE, "ip", [1, 1, 11]).unwrap(),
            "filter4 deep 1: ip saddr @blocked counter packets 0 bytes 0 drop \
             comment \"blocked { by # handle 99 } list\""
        );
        assert_eq!(
            at(NATIVE, "ip", [1, 3, 31]).unwrap(),
            "filter4 input 12: log prefix \"dropped # handle 5 {\" drop"
        );
        assert_eq!(at(NATIVE, "ip", [1, 1, 99]), None);
    }

    #[test]
    fn rules_that_iptables_made_are_found() {
        assert_eq!(
            at(OF_IPTABLES, "ip", [7, 2, 4]).unwrap(),
            "filter INPUT 2: meta l4proto tcp xt match string counter packets 0 bytes 0 \
             reject with tcp reset"
        );
        assert_eq!(
            at(OF_IPTABLES, "ip", [7, 5, 8]).unwrap(),
            "filter DEEP 2: counter packets 0 bytes 0 log prefix \"x\"y\""
        );
    }

    #[test]
    fn a_base_chain_tells_its_policy() {
        let listing = Listing::parse(OF_IPTABLES);
        let chain = listing.find(Some("ip"), 7, 1, 0).unwrap();
        assert_eq!(
            chain.base,
            Some("type filter hook forward priority filter; policy drop;")
        );
        assert_eq!(chain.rule, None);
        let listing = Listing::parse(NATIVE);
        let base = |chain| listing.find(Some("inet"), 3, chain, 0).unwrap().base;
        assert!(base(1).unwrap().starts_with("type filter hook input"));
        assert_eq!(base(2), None);
    }

    #[test]
    fn a_handle_counts_only_in_its_own_chain_table_and_family() {
        assert_eq!(at(NATIVE, "ip", [1, 3, 12]), None);
        assert_eq!(at(NATIVE, "ip", [2, 1, 2]), None);
        assert_eq!(at(NATIVE, "ip6", [1, 1, 12]), None);
        // The chain is known, the rule is gone.
        let listing = Listing::parse(NATIVE);
        let found = listing.find(Some("ip"), 1, 3, 1000).unwrap();
        assert_eq!((found.chain, found.rule), ("input", None));
    }

    #[test]
    fn the_handles_of_table_and_rule_tell_chain_and_family() {
        let listing = Listing::parse(NATIVE);
        let found = listing.find(None, 1, 0, 26).unwrap();
        assert_eq!((found.family, found.table), ("ip", "filter4"));
        assert_eq!((found.chain, found.handles[1]), ("input", 3));
        assert_eq!(found.rule.map(|(position, _)| position), Some(8));
        assert_eq!(listing.find(None, 1, 0, 1000), None);
        assert_eq!(listing.find(None, 9, 0, 26), None);
        let policy = listing.find(None, 1, 3, 0).unwrap();
        assert_eq!((policy.chain, policy.rule), ("input", None));
    }

    #[test]
    fn a_chain_tells_the_way_to_it() {
        let text = "table inet x { # handle 1\n\tmap m { # handle 5\n\t\ttype inet_service : verdict\n\t}\n\n\
            \tchain a { # handle 1\n\t\tdrop # handle 7\n\t}\n\n\
            \tchain b { # handle 2\n\t\tct state vmap { invalid : jump a } # handle 9\n\t}\n\n\
            \tchain i { # handle 3\n\t\ttype filter hook input priority filter; policy accept;\n\
            \t\tudp dport vmap @m # handle 10\n\t}\n}\n";
        let way = |elements: Option<&str>, chain| {
            let mut listing = Listing::parse(text);
            let maps = listing.maps();
            assert_eq!(maps, [["inet", "x", "m"]]);
            if let Some(elements) = elements {
                listing.add_elements(&maps[0], elements);
            }
            listing.find_ways();
            let path = listing.find(Some("inet"), 1, chain, 7).unwrap().path?;
            Some(path.join(" "))
        };
        let to_b = "\t\telements = { 1 : drop,\n\t\t\t     2 : goto b }\n";
        assert_eq!(way(Some(to_b), 1).as_deref(), Some("i b a"));
        assert_eq!(way(Some(to_b), 2).as_deref(), Some("i b"));
        assert_eq!(way(Some(to_b), 3), None);
        assert_eq!(way(Some(""), 1), None);
        assert_eq!(way(None, 2), None);
    }

    #[test]
    fn rules_that_iptables_made_are_told_as_it_prints_them() {
        let read = |saved: &str| {
            let mut listing = Listing::parse(WITH_SAVED);
            assert_eq!(listing.families_of_iptables(), ["ip"]);
            listing.add_iptables("ip", saved);
            listing
        };
        let of = |listing: &Listing, chain, rule| {
            let found = listing.find(Some("ip"), 1, chain, rule).unwrap();
            found.iptables.map(ToOwned::to_owned)
        };
        let listing = read(SAVED);
        let first = Some("-A INPUT -p tcp -m tcp --dport 443 -j DROP".to_owned());
        assert_eq!(of(&listing, 1, 2), first);
        assert!(of(&listing, 3, 5).unwrap().starts_with("-A DEEP -p udp"));
        assert_eq!(of(&listing, 6, 0).as_deref(), Some("-P FORWARD DROP"));
        assert_eq!(of(&listing, 6, 99), None);
        // One rule more in one chain, the others are told.
        let more = read(&SAVED.replace("-A DEEP", "-A INPUT -j ACCEPT\n-A DEEP"));
        assert_eq!(of(&more, 1, 2), None);
        assert!(of(&more, 3, 5).is_some());
        assert!(Listing::parse(NATIVE).families_of_iptables().is_empty());
    }

    #[test]
    fn a_rule_over_several_lines_is_one_text() {
        let text = "table ip t { # handle 1\n\tflowtable f { # handle 4\n\t\tdevices = { a }\n\t}\n\n\
            \tchain c { # handle 2\n\t\ttcp dport { 1, 2,\n\t\t\t     3 } drop # handle 3\n\t}\n}\n";
        assert_eq!(
            at(text, "ip", [1, 2, 3]).unwrap(),
            "t c 1: tcp dport { 1, 2, 3 } drop"
        );
    }

    #[test]
    fn nothing_is_believed_of_a_table_that_does_not_add_up() {
        // A comment with line breaks plays two more rules and the chain's end.
        for handle in [2, 3] {
            assert_eq!(at(FORGED, "inet", [9, 1, handle]), None);
        }
        let twice = NATIVE.to_owned() + NATIVE;
        assert_eq!(at(&twice, "ip", [1, 1, 12]), None);
    }

    #[test]
    fn fifty_thousand_rules_take_little_memory() {
        let rules: Vec<_> = (0..50_000)
            .map(|n| format!("\t\ttcp dport {n} drop # handle {}\n", n + 2))
            .collect();
        let rules = rules.concat();
        let text = format!("table ip t {{ # handle 1\n\tchain c {{ # handle 1\n{rules}\t}}\n}}\n");
        let listing = Listing::parse(&text);
        let found = listing.find(Some("ip"), 1, 1, 50_001).unwrap();
        let last = "tcp dport 49999 drop";
        assert_eq!(found.rule, Some((50_000, last)));
        assert!(listing.size() < 8 << 20, "{}", listing.size());
    }

    #[test]
    fn any_text_is_taken() {
        for text in [NATIVE, OF_IPTABLES, FORGED] {
            // Cut anywhere, with any one line left out, doubled, or cut.
            for end in (0..text.len())
                .step_by(5)
                .filter(|end| text.is_char_boundary(*end))
            {
                Listing::parse(&text[..end]);
            }
            let lines: Vec<_> = text.split('\n').collect();
            for skipped in 0..lines.len() {
                let mut rest = lines.clone();
                rest.remove(skipped);
                Listing::parse(&rest.join("\n"));
                rest.insert(skipped, &lines[skipped][..lines[skipped].len() / 4]);
                Listing::parse(&rest.join("\n"));
            }
        }
        for text in [
            "",
            "\n",
            "}",
            "\t}",
            "table",
            "table { # handle 1",
            " # handle ",
        ] {
            let listing = Listing::parse(text);
            assert_eq!(listing.find(Some(""), 1, 1, 1), None);
        }
    }
}

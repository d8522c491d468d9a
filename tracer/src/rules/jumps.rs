//! Which way leads to a chain: from the base chain by jumps, gotos and verdict
//! maps.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::statement::{self, Target};

/// Chains on one way, and steps of the search for one.
const MAX_LENGTH: usize = 64;
const MAX_STEPS: usize = 4096;

/// What the rules of one table say, while they are read.
#[derive(Debug, Default)]
pub struct Jumps {
    /// From a chain, by its handle, to another, by its name.
    direct: HashSet<(u64, String)>,
    /// The maps of verdicts that a chain looks into.
    by_map: HashSet<(u64, String)>,
    /// What the table's maps of verdicts lead to; `None` where that is not known.
    maps: HashMap<String, Option<Vec<String>>>,
    /// A rule whose text does not tell.
    doubtful: bool,
}

impl Jumps {
    /// A rule of a chain.
    pub fn rule(&mut self, chain: u64, text: &str) {
        let Some(targets) = statement::targets(text) else {
            self.doubtful = true;
            return;
        };
        for target in targets {
            match target {
                Target::Chain(name) => self.direct.insert((chain, name.to_owned())),
                Target::Map(name) => self.by_map.insert((chain, name.to_owned())),
            };
        }
    }

    /// A map of verdicts, whose elements are not known yet.
    pub fn map(&mut self, name: &str) {
        self.maps.insert(name.to_owned(), None);
    }

    /// The maps of verdicts that rules look into.
    pub fn maps(&self) -> BTreeSet<&str> {
        self.by_map.iter().map(|(_, name)| &**name).collect()
    }

    /// The elements of a map, as `nft list map` prints it.
    pub fn elements(&mut self, name: &str, text: &str) {
        let targets = statement::targets(text).map(|targets| {
            let chains = targets.into_iter().filter_map(|target| match target {
                Target::Chain(name) => Some(name.to_owned()),
                Target::Map(_) => None,
            });
            chains.collect()
        });
        if let Some(known) = self.maps.get_mut(name) {
            *known = targets;
        }
    }

    /// What leads where, between chains by their names.
    pub fn ways(&self, chains: &HashMap<&str, u64>) -> Ways {
        let mut steps = Vec::new();
        let mut doubtful = self.doubtful;
        let mut add = |from: u64, name: &String| match chains.get(&**name) {
            Some(to) => steps.push((*to, from)),
            None => doubtful = true,
        };
        for (from, name) in &self.direct {
            add(*from, name);
        }
        for (from, map) in &self.by_map {
            match self.maps.get(map) {
                Some(Some(names)) => names.iter().for_each(|name| add(*from, name)),
                _ => return Ways::default(),
            }
        }
        steps.sort_unstable();
        steps.dedup();
        Ways((!doubtful).then_some(steps))
    }
}

/// Each step from a chain to the next as (next, chain), in order; `None` where
/// not all of them are known.
#[derive(Debug, Default)]
pub struct Ways(Option<Vec<(u64, u64)>>);

/// The chains that lead to one.
enum Way {
    None,
    One(Vec<u64>),
    Many,
}

impl Ways {
    /// The one way from a base chain to this chain, both included; `None` where
    /// there are several, or not all are known.
    pub fn to(&self, chain: u64, is_base: impl Fn(u64) -> bool) -> Option<Vec<u64>> {
        let mut search = Search {
            steps: self.0.as_ref()?,
            is_base,
            dead: HashSet::new(),
            left: MAX_STEPS,
        };
        match search.up(chain, 0) {
            Way::One(way) => Some(way),
            Way::None | Way::Many => None,
        }
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(0, Vec::len) * size_of::<(u64, u64)>()
    }
}

struct Search<'a, F> {
    steps: &'a [(u64, u64)],
    is_base: F,
    /// Chains to which no way leads.
    dead: HashSet<u64>,
    left: usize,
}

impl<F: Fn(u64) -> bool> Search<'_, F> {
    /// The way to a chain from which `depth` steps lead on.
    fn up(&mut self, chain: u64, depth: usize) -> Way {
        if (self.is_base)(chain) {
            return Way::One(vec![chain]);
        }
        // Only a forged listing goes in circles.
        if depth >= MAX_LENGTH || self.left == 0 {
            return Way::Many;
        }
        let first = self.steps.partition_point(|(to, _)| *to < chain);
        let mut found = Way::None;
        for (_, from) in self.steps[first..]
            .iter()
            .take_while(|(to, _)| *to == chain)
        {
            if self.dead.contains(from) {
                continue;
            }
            self.left = self.left.saturating_sub(1);
            match (self.up(*from, depth + 1), &found) {
                (Way::None, _) => {
                    self.dead.insert(*from);
                }
                (Way::One(mut way), Way::None) => {
                    way.push(chain);
                    found = Way::One(way);
                }
                _ => return Way::Many,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way to `chain` where `rules` stand in chains of one letter, of which
    /// `a`, `b` and `c` are base chains.
    fn way(rules: &[(&str, &str)], maps: &[(&str, &str)], chain: &str) -> Option<String> {
        let handle = |name: &str| u64::from(name.as_bytes()[0]);
        let mut jumps = Jumps::default();
        for (chain, text) in rules {
            jumps.rule(handle(chain), text);
        }
        for (map, elements) in maps {
            jumps.map(map);
            jumps.elements(map, elements);
        }
        let names: Vec<String> = ('a'..='z').map(String::from).collect();
        let chains = names.iter().map(|name| (&**name, handle(name))).collect();
        let is_base = |chain| chain <= u64::from(b'c');
        let way = jumps.ways(&chains).to(handle(chain), is_base)?;
        let letters = way.into_iter().filter_map(|chain| u8::try_from(chain).ok());
        Some(letters.map(char::from).collect())
    }

    #[test]
    fn the_one_way_is_told() {
        let rules = [
            ("a", "tcp dport 1 jump x"),
            ("a", "tcp dport 2 jump x comment \"again\""),
            ("x", "ct state vmap { invalid : goto y, new : accept }"),
            ("y", "iifname vmap @m"),
            // No base chain leads here.
            ("w", "goto x"),
        ];
        let maps = [("m", "elements = { \"eth0\" : jump z, \"jump q\" : drop }")];
        for (chain, expected) in [
            ("a", Some("a")),
            ("x", Some("ax")),
            ("y", Some("axy")),
            ("z", Some("axyz")),
            ("w", None),
            ("q", None),
        ] {
            assert_eq!(way(&rules, &maps, chain).as_deref(), expected, "{chain}");
        }
    }

    #[test]
    fn of_several_ways_none_is_told() {
        let rules = [("a", "jump x"), ("b", "jump x"), ("x", "jump y")];
        assert_eq!(way(&rules, &[], "y"), None);
        let rules = [("a", "jump x"), ("a", "jump y"), ("x", "jump y")];
        assert_eq!(way(&rules, &[], "y"), None);
        assert_eq!(way(&rules, &[], "x").as_deref(), Some("ax"));
    }

    #[test]
    fn where_something_is_not_known_no_way_is_told() {
        for rule in ["vmap @m", "jump unheard-of", "log prefix \"a\"b\" jump y"] {
            assert_eq!(way(&[("a", "jump x"), ("b", rule)], &[], "x"), None);
        }
        let in_doubt = [("m", "elements = { \"a\"b\" : jump y }")];
        assert_eq!(
            way(&[("a", "jump x"), ("b", "vmap @m")], &in_doubt, "x"),
            None
        );
    }

    #[test]
    fn a_forged_circle_and_a_maze_come_to_an_end() {
        let circle = [("x", "jump y"), ("y", "jump x"), ("a", "jump z")];
        assert_eq!(way(&circle, &[], "x"), None);
        let mut maze = Vec::new();
        for pair in ('d'..='z').map(String::from).collect::<Vec<_>>().windows(3) {
            maze.push((pair[0].clone(), format!("jump {}", pair[1])));
            maze.push((pair[0].clone(), format!("jump {}", pair[2])));
        }
        let maze: Vec<_> = maze.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(way(&maze, &[], "z"), None);
    }
}

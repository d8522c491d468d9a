//! What the text of a rule says: its comment, its verdict, where it leads.

/// How the last statement of a rule may begin.
const VERDICTS: [&str; 9] = [
    "drop", "reject", "accept", "queue", "synproxy", "jump", "goto", "return", "continue",
];

/// The comment of a rule; `None` without one, and where quotes within quotes
/// leave open where it begins.
pub fn comment(text: &str) -> Option<&str> {
    let body = text.strip_suffix('"')?;
    let (start, _) = outer_words(text).find(|(_, word)| *word == "comment")?;
    let comment = body.get(start..)?.strip_prefix("comment \"")?;
    (!comment.contains('"')).then_some(comment)
}

/// What the rule does with a packet in the end, such as `drop` or `reject with
/// tcp reset`; `None` where another thing (a verdict map) decides.
pub fn verdict(text: &str) -> Option<&str> {
    let (start, _) = outer_words(text).find(|(_, word)| VERDICTS.contains(word))?;
    let comment = outer_words(text).find(|(at, word)| *at > start && *word == "comment");
    let end = comment.map_or(text.len(), |(at, _)| at);
    Some(text.get(start..end)?.trim_end())
}

/// Where a rule, or an element of a map, may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The chain of this name.
    Chain(&'a str),
    /// What the map of this name has.
    Map(&'a str),
}

/// Where a rule, or the elements of a map, may lead; `None` where quotes within
/// quotes leave that open.
pub fn targets(text: &str) -> Option<Vec<Target<'_>>> {
    let mut targets = Vec::new();
    if !["jump", "goto", "vmap"]
        .iter()
        .any(|word| text.contains(word))
    {
        return Some(targets);
    }
    let parts: Vec<&str> = text.split('"').collect();
    let end = parts.len() - 1;
    if end % 2 == 1 {
        return None;
    }
    let is_apart = |c: Option<char>| c.is_some_and(|c| " ,{}".contains(c));
    // Every second part stands between quotes.
    for (n, part) in parts.into_iter().enumerate().step_by(2) {
        let begins_well = n == 0 || is_apart(part.chars().next()) || (n == end && part.is_empty());
        let ends_well =
            n == end || is_apart(part.chars().next_back()) || (n == 0 && part.is_empty());
        if !begins_well || !ends_well {
            return None;
        }
        let mut last = "";
        for word in part
            .split([' ', ',', '{', '}'])
            .filter(|word| !word.is_empty())
        {
            last = match (last, word.strip_prefix('@')) {
                ("jump" | "goto", _) => {
                    targets.push(Target::Chain(word));
                    ""
                }
                ("vmap", Some(name)) => {
                    targets.push(Target::Map(name));
                    ""
                }
                _ => word,
            };
        }
    }
    Some(targets)
}

/// The words outside quotes and braces, with their places.
fn outer_words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut quoted, mut depth, mut next) = (false, 0_usize, 0);
    text.split(' ').filter_map(move |word| {
        let (at, is_outer) = (next, !quoted && depth == 0);
        next += word.len() + 1;
        for c in word.chars() {
            match c {
                '"' => quoted = !quoted,
                '{' if !quoted => depth += 1,
                '}' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        is_outer.then_some((at, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_what_stands_in_the_last_quotes() {
        assert_eq!(comment("drop comment \"why # {\""), Some("why # {"));
        assert_eq!(comment("drop comment \"\""), Some(""));
        assert_eq!(
            comment("log prefix \"my comment \" drop comment \"b\""),
            Some("b")
        );
        for none in [
            "drop",
            "log prefix \"a comment \"",
            "ip saddr { 10.0.0.1 comment \"x\" } log prefix \"y\"",
            "log prefix \"a\"b comment \" drop comment \"c\"",
            "comment",
            "\"",
            "",
        ] {
            assert_eq!(comment(none), None, "{none}");
        }
    }

    #[test]
    fn any_text_is_taken() {
        let text = include_str!("../../../tests/fixtures/nft_ruleset.txt");
        for line in text.split('\n') {
            for (at, _) in line.char_indices() {
                for part in [&line[at..], &line[..at]] {
                    let (comment, verdict) = (comment(part), verdict(part));
                    assert!(comment.is_none_or(|found| part.contains(found)));
                    assert!(verdict.is_none_or(|found| part.contains(found)));
                }
            }
        }
    }

    #[test]
    fn a_verdict_is_the_last_statement() {
        for (text, expected) in [
            ("tcp dport 443 counter packets 3 bytes 180 drop", "drop"),
            ("drop comment \"accept\"", "drop"),
            ("iifname \"drop\" accept", "accept"),
            ("log prefix \"accept it \" drop", "drop"),
            (
                "reject with icmp port-unreachable comment \"x\"",
                "reject with icmp port-unreachable",
            ),
            ("ip saddr { 10.0.0.1 : accept } reject", "reject"),
            ("jump drop", "jump drop"),
            ("queue to 3", "queue to 3"),
            (
                "queue flags bypass,fanout to 1-3",
                "queue flags bypass,fanout to 1-3",
            ),
            ("queue to numgen inc mod 4", "queue to numgen inc mod 4"),
            ("queue num 3 bypass", "queue num 3 bypass"),
            ("limit rate over 5/second burst 5 packets drop", "drop"),
            (
                "limit name \"drop\" reject with icmpx admin-prohibited",
                "reject with icmpx admin-prohibited",
            ),
            (
                "meter flood size 128000 { ip saddr limit rate over 10/second } drop",
                "drop",
            ),
            (
                "add @flood { ip saddr limit rate over 10/second burst 5 packets } drop",
                "drop",
            ),
            (
                "meta l4proto tcp ct count over 20 reject with tcp reset",
                "reject with tcp reset",
            ),
            ("quota over 5 mbytes drop", "drop"),
            ("fib saddr . iif oif missing drop", "drop"),
            (
                "synproxy mss 1460 wscale 7 timestamp sack-perm",
                "synproxy mss 1460 wscale 7 timestamp sack-perm",
            ),
            ("synproxy name \"drop\"", "synproxy name \"drop\""),
            ("synproxy mss 1460 wscale 7", "synproxy mss 1460 wscale 7"),
        ] {
            assert_eq!(verdict(text), Some(expected), "{text}");
        }
        for none in [
            "ct state vmap { invalid : drop }",
            "counter",
            "xt target TCPMSS",
            "",
        ] {
            assert_eq!(verdict(none), None, "{none}");
        }
    }
}

//! Ranges of versions, as users of Flux and Helm write them: in the language of Masterminds/semver.
//!
//! A range is groups of comparators: `||` or commas and blanks between them, `||` binding less. A comparator is one of
//! `= != > >= < <= ~ ~> ^` (`=>` and `=<` too) or none, and a version that may be cut short or have `x`, `X` or `*` for a
//! part: `1.2`, `1.x`, `*`. Without an operator a whole version means itself, and a short one all that begins with it.
//! `1.2 - 2` goes from one to the other, both included. Versions before a release (`1.2.3-rc.1`) are taken by groups of
//! which a comparator names one: `>=1.0.0-0` takes them all.
//! Source: github.com/Masterminds/semver v3.4, constraints.go and constraints_test.go (read 2026-11).

use semver::{BuildMetadata, Prerelease, Version};

/// A range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Group>);

/// Comparators that have to hold all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    comparators: Vec<Comparator>,
    /// Whether versions before a release are taken.
    pre: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparator {
    operator: Operator,
    /// The version, with zeros for the parts that are not given.
    version: Version,
    given: Given,
}

/// The parts of a version that are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    None,
    Major,
    Minor,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

/// Longer ones first, as the shorter ones begin them.
const OPERATORS: &[(&str, Operator)] = &[
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

impl Range {
    /// Reads a range; the error says which part of it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split("||").map(Group::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a tag is a version that is in the range. It has to be whole (`1.2` is no version); a leading `v` is no part
    /// of it, and `_` stands for the `+` that no tag can have, as in tags of Helm charts.
    pub fn contains(&self, tag: &str) -> bool {
        let version = Version::parse(&tag.strip_prefix('v').unwrap_or(tag).replace('_', "+"));
        version.is_ok_and(|version| self.0.iter().any(|group| group.contains(&version)))
    }
}

impl Group {
    fn parse(text: &str) -> Result<Self, String> {
        let mut comparators = Vec::new();
        let mut rest = text.trim();
        loop {
            let operator = OPERATORS.iter().find_map(|(sign, operator)| Some((rest.strip_prefix(sign)?, *operator)));
            let (after, operator) = operator.map_or((rest, None), |(after, operator)| (after, Some(operator)));
            let (version, after) = word(after.trim_start());
            let to = after.trim_start().strip_prefix('-').filter(|to| to.starts_with(char::is_whitespace));
            match to {
                Some(to) if operator.is_none() => {
                    let (to, after) = word(to.trim_start());
                    comparators.push(Comparator::parse(Operator::GreaterOrEqual, version)?);
                    comparators.push(Comparator::parse(Operator::LessOrEqual, to)?);
                    rest = after;
                }
                _ => {
                    comparators.push(Comparator::parse(operator.unwrap_or(Operator::Equal), version)?);
                    rest = after;
                }
            }
            rest = rest.trim_start();
            if rest.is_empty() {
                break;
            }
            // After a comma there has to be something.
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let pre = comparators.iter().any(|comparator| !comparator.version.pre.is_empty());
        Ok(Self { comparators, pre })
    }

    fn contains(&self, version: &Version) -> bool {
        (self.pre || version.pre.is_empty()) && self.comparators.iter().all(|comparator| comparator.takes(version))
    }
}

/// What is before the next blank or comma, and the rest.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(text.len()))
}

impl Comparator {
    fn parse(operator: Operator, text: &str) -> Result<Self, String> {
        let none = || format!("`{text}` is no version");
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(numbers, pre)| (numbers, Some(pre)));
        let pre = pre.map_or(Ok(Prerelease::EMPTY), |pre| match pre {
            "" => Err(none()),
            pre => Prerelease::new(pre).map_err(|_| none()),
        })?;
        if build.is_some_and(|build| build.is_empty() || BuildMetadata::new(build).is_err()) {
            return Err(none());
        }
        let mut parts = [None; 3];
        for (i, part) in numbers.strip_prefix('v').unwrap_or(numbers).split('.').enumerate() {
            let number = match part {
                "x" | "X" | "*" => None,
                digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                    Some(digits.parse().map_err(|_| none())?)
                }
                _ => return Err(none()),
            };
            *parts.get_mut(i).ok_or_else(none)? = number;
        }
        // What follows a part that is not given counts for nothing.
        let (given, [major, minor, patch]) = match parts {
            [None, ..] => (Given::None, [0, 0, 0]),
            [Some(major), None, _] => (Given::Major, [major, 0, 0]),
            [Some(major), Some(minor), None] => (Given::Minor, [major, minor, 0]),
            [Some(major), Some(minor), Some(patch)] => (Given::All, [major, minor, patch]),
        };
        let version = Version { pre, ..Version::new(major, minor, patch) };
        Ok(Self { operator, version, given })
    }

    fn takes(&self, version: &Version) -> bool {
        let Self { operator, version: own, given } = self;
        let (same_major, same_minor) = (version.major == own.major, version.minor == own.minor);
        let order = version.cmp_precedence(own);
        match (operator, given) {
            (Operator::Equal, Given::All) => order.is_eq(),
            (Operator::NotEqual, Given::Major) => !same_major,
            (Operator::NotEqual, Given::Minor) => !(same_major && same_minor && version.pre == own.pre),
            (Operator::NotEqual, Given::None | Given::All) => order.is_ne(),
            (Operator::Greater, Given::Major) => version.major > own.major,
            (Operator::Greater, Given::Minor) => (version.major, version.minor) > (own.major, own.minor),
            (Operator::Greater, Given::None | Given::All) => order.is_gt(),
            (Operator::GreaterOrEqual, _) => order.is_ge(),
            (Operator::Less, _) => order.is_lt(),
            (Operator::LessOrEqual, Given::Major) => version.major <= own.major,
            (Operator::LessOrEqual, Given::None | Given::Minor) => {
                (version.major, version.minor) <= (own.major, own.minor)
            }
            (Operator::LessOrEqual, Given::All) => order.is_le(),
            // `*` and `~0.0.0` have no end.
            (Operator::Equal | Operator::Tilde, Given::None) => order.is_ge(),
            (Operator::Tilde, Given::All) if (own.major, own.minor, own.patch) == (0, 0, 0) => order.is_ge(),
            (Operator::Equal | Operator::Tilde, Given::Major) => order.is_ge() && same_major,
            (Operator::Equal | Operator::Tilde, _) => order.is_ge() && same_major && same_minor,
            (Operator::Caret, _) if own.major > 0 || *given == Given::Major => order.is_ge() && same_major,
            (Operator::Caret, _) if own.minor > 0 || *given == Given::Minor => {
                order.is_ge() && same_major && same_minor
            }
            (Operator::Caret, _) => order.is_ge() && same_major && same_minor && version.patch == own.patch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Out of the tables of Masterminds' own tests: a range, versions that are in it, and versions that are not.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        ("=2.0.0", &["2.0.0"], &["1.2.3"]),
        ("= 2.0", &["2.0.0", "2.0.1"], &["1.2.3"]),
        ("4.1", &["4.1.0", "4.1.3"], &["4.2.0"]),
        ("2", &["2.1.1"], &["1.0.0", "3.4.5"]),
        ("0.0.0", &[], &["1.2.3"]),
        ("!=4.1.0", &["4.1.1"], &["4.1.0"]),
        ("!=4.1", &["5.1.0"], &["4.1.0", "4.1.1", "5.1.0-alpha.1"]),
        ("!=4.1-alpha", &["4.1.0"], &["4.1.0-alpha", "4.1.1-alpha"]),
        ("!=4.x", &["5.1.0"], &["4.1.0"]),
        ("!=4.2.x", &["4.3.0"], &["4.2.3"]),
        ("<11", &["0.1.0"], &["11.1.0"]),
        ("<1.1.x", &["1.0.500"], &["1.1.500", "1.2.1"]),
        ("<=11", &["1.2.3", "11.2.3"], &["12.2.3"]),
        ("=<1.1", &["0.1.0", "1.1.0", "1.1.1"], &["1.2.3", "0.1.0-alpha"]),
        ("<=1.1-a", &["0.1.0-alpha"], &[]),
        ("<=1.1.x", &["1.1.500"], &["1.2.500"]),
        (">1.1", &["4.1.0"], &["1.1.0", "1.1.1"]),
        (">0", &["1.0.0"], &["0.0.0", "0.0.1-alpha"]),
        (">0-0", &[], &["0.0.1-alpha", "0.0.0-alpha"]),
        (">0.0.0-0", &["0.0.0-alpha"], &[]),
        (">1.2.3-alpha.1", &["1.2.3-alpha.2", "1.3.3-alpha.2"], &["1.2.3-alpha.1"]),
        (">11", &["12.0.0"], &["11.1.0"]),
        (">11.1", &["11.2.1"], &["11.1.0", "11.1.1"]),
        (">=11.1", &["11.1.2"], &["11.0.2"]),
        ("=>1.1", &["4.1.0", "1.1.0"], &["0.0.9", "4.1.0-beta"]),
        (">=0", &["0.0.0"], &["0.0.1-alpha"]),
        (">=0-0", &["0.0.1-alpha", "0.0.0-alpha"], &[]),
        (">=0.0.0-0", &["1.2.3", "3.4.5-beta.1"], &[]),
        ("<0-z", &["0.0.0-alpha"], &[]),
        ("*", &["4.5.6"], &["1.2.3-alpha.1"]),
        ("*-0", &["1.2.3-alpha.1"], &[]),
        ("2.*", &["2.1.1"], &["1.0.0", "3.4.5"]),
        ("2.1.*", &["2.1.1"], &["2.2.1"]),
        ("1.X", &["1.4.0"], &["2.0.0"]),
        ("~0.0.0", &["1.2.3"], &[]),
        ("~*", &["2.1.1"], &[]),
        ("~1.2.3", &["1.2.5"], &["1.2.2", "1.3.2"]),
        ("~>1.2", &["1.2.4"], &["1.3.4"]),
        ("~1", &["1.3.5"], &["2.1.1", "1.3.5-beta"]),
        ("~1.1-alpha", &["1.1.1-beta"], &[]),
        ("~1.2.3-beta.2", &["1.2.3-beta.4", "1.2.4-beta.2"], &["1.3.4-beta.2"]),
        ("^1.2.3", &["1.8.9"], &["2.8.9", "1.2.1"]),
        ("^1.x", &["1.1.1"], &["2.1.1", "1.1.1-beta1"]),
        ("^1.2.0-alpha.2", &["1.2.1-alpha.1"], &["1.2.0-alpha.1"]),
        ("^0.2.3", &["0.2.5"], &["0.5.6"]),
        ("^0.2", &["0.2.5"], &["0.5.6"]),
        ("^0.0.3", &["0.0.3"], &["0.0.4"]),
        ("^0.0", &["0.0.3"], &["0.1.4", "1.0.4"]),
        ("^0", &["0.2.3"], &["1.1.4"]),
        ("^0.0.0", &[], &["1.2.3"]),
        ("^0.2.3-beta.2", &["0.2.3-beta.4", "0.2.4-beta.2"], &["0.3.4-beta.2"]),
        (">1.1, <2", &["1.2.1"], &["1.1.1", "4.3.2"]),
        (">= 1.1    < 2 != 1.2.3", &["1.2.4"], &["1.2.3"]),
        (">=1.1 <2 !=1.2.3 || > 3", &["4.1.2"], &["3.1.2", "3.0.0", "1.2.3"]),
        (">=1.1, <2, !=1.2.3||>= 3", &["3.0.0"], &["2.0.0"]),
        ("1.1 - 2", &["1.1.1", "2.0.0"], &["1.0.0", "3.0.0"]),
        ("1.5.0 - 4.5", &["3.7.0"], &["4.6.0"]),
        ("1.1-3", &[], &["4.3.2"]),
        ("1.0.0 - 2.0.0 <=1.9.0", &["1.5.0"], &["2.0.0"]),
        ("2 - 3 ,4.0.0 - 5.1 || v6.0.0", &["6.0.0"], &["2.0.0", "4.0.0"]),
        // A comparator that names a version before a release opens its whole group to them, and no other group.
        (">=1.0.0-0", &["1.2.3", "1.2.3-rc.1"], &["0.9.0"]),
        (">=1.0.0-0 <2.0.0", &["1.2.3-rc.1"], &["2.0.0"]),
        ("^1.0.0 || >=3.0.0-0", &["1.2.3", "3.1.0-rc.1"], &["1.2.3-rc.1"]),
    ];

    #[test]
    fn ranges_hold_what_they_hold_for_flux() {
        for (text, within, without) in TABLE {
            let range = Range::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            for version in *within {
                assert!(range.contains(version), "{version} is in {text}");
            }
            for version in *without {
                assert!(!range.contains(version), "{version} is not in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_part_that_is_none() {
        for (text, part) in [
            ("", "``"),
            ("^1 ||", "``"),
            (">= bar", "`bar`"),
            ("BAR >= 1.2.3", "`BAR`"),
            ("12.3.4.1234", "`12.3.4.1234`"),
            ("12.3.34~ 1.2.3", "`12.3.34~`"),
            (">=1.0<2.0", "`1.0<2.0`"),
            ("> 1.2 - 2", "`-`"),
            (">1,,<2", "``"),
            (">1,", "``"),
            ("1.2.3-", "`1.2.3-`"),
            ("latest", "`latest`"),
            ("99999999999999999999", "`99999999999999999999`"),
        ] {
            let refused = Range::parse(text).expect_err(text);
            assert!(refused.starts_with(part), "{text}: {refused}");
        }
    }

    #[test]
    fn a_tag_is_a_whole_version_with_or_without_v_and_with_an_underscore_for_its_plus() {
        let range = Range::parse(">=1.0.0").expect("a range");
        assert!(["1.2.3", "v1.2.3", "1.2.3_build.7", "1.2.3+build.7"].iter().all(|tag| range.contains(tag)));
        assert!(["1.2", "latest", "", "1.2.3-rc.1", "1.02.3", "vv1.2.3"].iter().all(|tag| !range.contains(tag)));
        // What follows the plus has no part in the order.
        assert!(Range::parse("1.2.3").expect("a range").contains("1.2.3_build.7"));
    }
}

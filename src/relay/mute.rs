//! When a route is mute: in named times of the week, or until a date.
//!
//! What is over is told even then. Whoever heard of the beginning would wait for the end, and an incident would stay
//! open until somebody looks.

use std::collections::BTreeMap;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde_json::{Value, json};

use super::format::{At, OneOrMany, Problems, Read, parsed};
use crate::domain::name::Name;
use crate::keys;

keys! {
    /// When a route tells nothing but what is over.
    pub struct Mute {
        /// The `windows` in which it is mute.
        during: Option<OneOrMany<Name>>,
        /// The time up to which it is mute, with its offset: 2026-12-24T08:00:00+01:00. A date alone is its first
        /// moment in UTC.
        until: Option<Until>,
    }
}

impl Mute {
    /// Whether it holds at the time `now`.
    pub fn holds(&self, windows: &BTreeMap<Name, Window>, now: Timestamp) -> bool {
        let mut during = self.during.iter().flat_map(|during| &during.0).filter_map(|name| windows.get(name));
        self.until.is_some_and(|until| now < until.0) || during.any(|window| window.covers(now))
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until(Timestamp);

impl Read for Until {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok();
            let time = text.parse().ok().or_else(|| Some(date()?.timestamp()));
            time.map(Self).ok_or_else(|| {
                "expected a time with its offset, such as 2026-12-24T08:00:00+01:00, or a date".to_owned()
            })
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a time with its offset (RFC 3339), or a date" })
    }
}

keys! {
    /// Times of the week.
    pub struct Window {
        /// The time zone of these times, by its IANA name: Europe/Berlin.
        time_zone: Zone = Zone(TimeZone::UTC),
        /// The times.
        times: OneOrMany<Times>,
    }
}

keys! {
    /// A part of some days.
    pub struct Times {
        /// The days on which it begins: mon, tue … or mon-fri. Left out: every day.
        days: Option<OneOrMany<Days>>,
        /// When it begins: 22:00.
        from: Clock = Clock(Time::midnight()),
        /// When it ends, itself not included. Not after `from`: on the next day, so that both left out are whole days.
        to: Clock = Clock(Time::midnight()),
    }
}

impl Window {
    /// Whether `now` is in it. Where the clocks are changed, times are those that a clock on the wall shows.
    pub fn covers(&self, now: Timestamp) -> bool {
        let now = now.to_zoned(self.time_zone.0.clone());
        self.times.0.iter().any(|times| times.cover(&now))
    }
}

impl Times {
    fn cover(&self, now: &Zoned) -> bool {
        let (time, today) = (now.time(), now.weekday());
        let yesterday = now.datetime().checked_sub(1.day()).map_or(today.previous(), |before| before.weekday());
        let begins = |day| self.days.as_ref().is_none_or(|days| days.0.iter().any(|days| days.0.contains(&day)));
        let (from, to) = (self.from.0, self.to.0);
        if from < to {
            begins(today) && from <= time && time < to
        } else {
            (begins(today) && from <= time) || (begins(yesterday) && time < to)
        }
    }
}

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Read for Zone {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let known = TimeZone::get(text).map(Self);
            known.map_err(|_| "there is no such time zone; expected an IANA name such as Europe/Berlin".to_owned())
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a time zone by its IANA name" })
    }
}

/// A time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock(Time);

impl Read for Clock {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let time = match text {
                "24:00" => Some(Time::midnight()),
                text => Time::strptime("%H:%M", text).ok(),
            };
            time.map(Self).ok_or_else(|| "expected a time of the day in quotes, such as \"22:00\"".to_owned())
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^([01]?[0-9]|2[0-4]):[0-5][0-9]$" })
    }
}

/// One day of the week, or several that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days(Vec<Weekday>);

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl Read for Days {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let day = |word: &str| {
                let word = word.trim().to_ascii_lowercase();
                let found = DAYS.iter().find(|(short, _)| *short == word).map(|(_, day)| *day);
                found.ok_or_else(|| "expected a day such as mon, or days such as mon-fri".to_owned())
            };
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let last = day(last)?;
            let mut days = vec![day(first)?];
            while let Some(day) = days.last().filter(|day| **day != last) {
                days.push(day.next());
            }
            Ok(Self(days))
        })
    }

    fn schema() -> Value {
        let day = DAYS.map(|(day, _)| day).join("|");
        json!({ "type": "string", "pattern": format!("^({day})(-({day}))?$") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(value: Value) -> Window {
        let mut problems = Problems::default();
        let window = Window::read(&value, &At::root(), &mut problems);
        window.unwrap_or_else(|| panic!("{:?}", problems.0))
    }

    fn covers(window: &Window, time: &str) -> bool {
        window.covers(time.parse().expect("time"))
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let nights = window(json!({ "times": { "days": "mon-fri", "from": "22:00", "to": "06:00" } }));
        for (time, expected) in [
            ("2026-11-20T22:00:00Z", true),  // Friday
            ("2026-11-21T05:59:59Z", true),  // its night
            ("2026-11-21T06:00:00Z", false), // Saturday
            ("2026-11-21T23:00:00Z", false),
            ("2026-11-23T05:00:00Z", false), // Monday, of Sunday's night
            ("2026-11-23T21:59:59Z", false),
        ] {
            assert_eq!(covers(&nights, time), expected, "{time}");
        }
    }

    #[test]
    fn times_are_those_of_the_time_zone_in_summer_and_in_winter() {
        let lunch = window(json!({ "time_zone": "Europe/Berlin", "times": [{ "from": "12:00", "to": "13:00" }] }));
        assert!(covers(&lunch, "2026-07-01T10:30:00Z") && !covers(&lunch, "2026-07-01T11:30:00Z"));
        assert!(covers(&lunch, "2026-12-01T11:30:00Z") && !covers(&lunch, "2026-12-01T10:30:00Z"));
    }

    #[test]
    fn a_day_without_times_is_the_whole_day() {
        let weekend = window(json!({ "times": { "days": ["sat", "sun"] } }));
        assert!(covers(&weekend, "2026-11-21T00:00:00Z") && covers(&weekend, "2026-11-22T23:59:59Z"));
        assert!(!covers(&weekend, "2026-11-23T00:00:00Z") && !covers(&weekend, "2026-11-20T23:59:59Z"));
    }

    #[test]
    fn days_may_go_over_the_end_of_the_week() {
        let window = window(json!({ "times": { "days": "sat-mon" } }));
        assert!(covers(&window, "2026-11-23T12:00:00Z") && !covers(&window, "2026-11-24T12:00:00Z"));
    }

    #[test]
    fn a_mute_holds_until_its_date_and_in_its_windows() {
        let mut problems = Problems::default();
        let value = json!({ "during": "weekend", "until": "2026-11-01" });
        let mute = Mute::read(&value, &At::root(), &mut problems).expect("valid");
        let windows = [(Name::parse("weekend").expect("name"), window(json!({ "times": { "days": "sat-sun" } })))];
        let windows = windows.into();
        for (time, expected) in
            [("2026-10-30T00:00:00Z", true), ("2026-11-02T00:00:00Z", false), ("2026-11-07T12:00:00Z", true)]
        {
            assert_eq!(mute.holds(&windows, time.parse().expect("time")), expected, "{time}");
        }
    }

    #[test]
    fn what_is_no_time_is_said_with_what_would_be_one() {
        for (value, words) in [
            (json!({ "times": { "from": "22" } }), "such as \"22:00\""),
            (json!({ "times": { "days": "monday" } }), "such as mon"),
            (json!({ "time_zone": "Berlin", "times": {} }), "Europe/Berlin"),
            (json!({}), "`times` is missing"),
        ] {
            let mut problems = Problems::default();
            assert!(Window::read(&value, &At::root(), &mut problems).is_none(), "{value}");
            assert!(problems.0[0].to_string().contains(words), "{}", problems.0[0]);
        }
    }
}

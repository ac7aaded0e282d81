//! The rule part of a recurrence: which civil times it has (RFC 5545, section 3.3.10).
//!
//! A rule is a row of periods (years, months, weeks, days, or ticks within a day), each `interval` after
//! the one before. The times of a period are its days that fit every BY part of days, at the times of
//! day that fit those of times; `BYSETPOS` picks from them. The period of any moment is computed, not
//! walked to, so the next time costs the same after a hundred years.

use std::collections::BTreeSet;

use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime, Time, Weekday};

use super::EVERY_LOOKS_MAX;

/// What a rule repeats by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frequency {
    Secondly,
    Minutely,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// A rule. An empty part says nothing; numbers below zero count from the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) frequency: Frequency,
    pub(super) interval: i64,
    pub(super) count: Option<u32>,
    pub(super) until: Option<DateTime>,
    pub(super) week_start: Weekday,
    pub(super) months: BTreeSet<i16>,
    pub(super) week_numbers: BTreeSet<i16>,
    pub(super) year_days: BTreeSet<i16>,
    pub(super) month_days: BTreeSet<i16>,
    pub(super) week_days: Vec<(Option<i16>, Weekday)>,
    pub(super) hours: BTreeSet<i16>,
    pub(super) minutes: BTreeSet<i16>,
    pub(super) seconds: BTreeSet<i16>,
    pub(super) positions: BTreeSet<i16>,
}

impl Frequency {
    /// Seconds of a tick, of those that are shorter than a day.
    fn tick(self) -> Option<i64> {
        match self {
            Frequency::Secondly => Some(1),
            Frequency::Minutely => Some(60),
            Frequency::Hourly => Some(3_600),
            _ => None,
        }
    }
}

impl Rule {
    pub(super) fn new(frequency: Frequency) -> Self {
        Self {
            frequency,
            interval: 1,
            count: None,
            until: None,
            week_start: Weekday::Monday,
            months: BTreeSet::new(),
            week_numbers: BTreeSet::new(),
            year_days: BTreeSet::new(),
            month_days: BTreeSet::new(),
            week_days: Vec::new(),
            hours: BTreeSet::new(),
            minutes: BTreeSet::new(),
            seconds: BTreeSet::new(),
            positions: BTreeSet::new(),
        }
    }

    /// The rule with what it does not say taken from its start.
    pub(super) fn resolved(mut self, start: DateTime) -> Self {
        let says_day =
            !(self.year_days.is_empty() && self.month_days.is_empty() && self.week_days.is_empty());
        let month_day = i16::from(start.day());
        match self.frequency {
            Frequency::Yearly if says_day => {}
            Frequency::Yearly if !self.week_numbers.is_empty() => {
                self.week_days.push((None, start.weekday()));
            }
            Frequency::Yearly => {
                if self.months.is_empty() {
                    self.months.insert(i16::from(start.month()));
                }
                self.month_days.insert(month_day);
            }
            Frequency::Monthly if !says_day => _ = self.month_days.insert(month_day),
            Frequency::Weekly if !says_day => self.week_days.push((None, start.weekday())),
            _ => {}
        }
        let from_start = |part: &mut BTreeSet<i16>, value: i8| {
            if part.is_empty() {
                part.insert(i16::from(value));
            }
        };
        let tick = self.frequency.tick();
        if tick.is_none() {
            from_start(&mut self.hours, start.hour());
        }
        if tick.is_none_or(|tick| tick > 60) {
            from_start(&mut self.minutes, start.minute());
        }
        if tick.is_none_or(|tick| tick > 1) {
            from_start(&mut self.seconds, start.second());
        }
        self
    }

    /// The first time after `after`, or at it if `inclusive`, of the rule that begins at `start`.
    pub(super) fn next(
        &self,
        start: DateTime,
        after: DateTime,
        inclusive: bool,
    ) -> Option<DateTime> {
        let mut left = self.count.unwrap_or(u32::MAX);
        let mut looks = 0;
        // A rule that counts is told from its start.
        let from = if self.count.is_some() { start } else { after.max(start) };
        let mut period = self.period_of(start, from);
        while looks < EVERY_LOOKS_MAX {
            for time in self.times(start, &mut period, &mut looks)? {
                if time < start {
                    continue;
                }
                if left == 0 || self.until.is_some_and(|until| time > until) {
                    return None;
                }
                left -= u32::from(self.count.is_some());
                if time > after || inclusive && time == after {
                    return Some(time);
                }
            }
            period += 1;
        }
        None
    }

    /// The number of the period that `at` lies in, or of the last one before it.
    fn period_of(&self, start: DateTime, at: DateTime) -> i64 {
        let months = |at: Date| i64::from(at.year()) * 12 + i64::from(at.month());
        let passed = match self.frequency {
            Frequency::Yearly => i64::from(at.year()) - i64::from(start.year()),
            Frequency::Monthly => months(at.date()) - months(start.date()),
            Frequency::Weekly => days_between(self.week_of(start.date()), at.date()).div_euclid(7),
            Frequency::Daily => days_between(start.date(), at.date()),
            Frequency::Hourly | Frequency::Minutely | Frequency::Secondly => {
                seconds_between(start, at).div_euclid(self.frequency.tick().unwrap_or(1))
            }
        };
        passed.max(0) / self.interval
    }

    /// The times of a period, in order. A tick whose day, hour or minute does not fit moves `period` to
    /// the last one that does not. `None`: the calendar has ended.
    fn times(&self, start: DateTime, period: &mut i64, looks: &mut u32) -> Option<Vec<DateTime>> {
        let mut times: Vec<DateTime> = Vec::new();
        if let Some(tick) = self.frequency.tick() {
            *looks += 1;
            times = self.times_of_tick(start, period, tick * self.interval)?;
        } else {
            let (first, days) = self.days_of(start.date(), *period)?;
            for n in 0..days {
                *looks += 1;
                let day = first.checked_add(n.days()).ok()?;
                if self.day_fits(day) {
                    self.push_times(day, &self.hours, &mut times);
                }
            }
        }
        Some(self.picked(times))
    }

    /// The first day of a period of days, and how many it has.
    fn days_of(&self, start: Date, period: i64) -> Option<(Date, i64)> {
        let passed = period.checked_mul(self.interval)?;
        Some(match self.frequency {
            Frequency::Yearly => {
                let year = i16::try_from(i64::from(start.year()).checked_add(passed)?).ok()?;
                let first = Date::new(year, 1, 1).ok()?;
                (first, i64::from(first.days_in_year()))
            }
            Frequency::Monthly => {
                let months = i64::from(start.year()) * 12 + i64::from(start.month()) - 1;
                let months = months.checked_add(passed)?;
                let year = i16::try_from(months.div_euclid(12)).ok()?;
                let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
                let first = Date::new(year, month, 1).ok()?;
                (first, i64::from(first.days_in_month()))
            }
            Frequency::Weekly => {
                let days = passed.checked_mul(7)?;
                (self.week_of(start).checked_add(span_of_days(days)?).ok()?, 7)
            }
            _ => (start.checked_add(span_of_days(passed)?).ok()?, 1),
        })
    }

    fn times_of_tick(&self, start: DateTime, period: &mut i64, step: i64) -> Option<Vec<DateTime>> {
        let passed = period.checked_mul(step)?;
        let at = start.checked_add(jiff::SignedDuration::from_secs(passed)).ok()?;
        let midnight = at.date().to_datetime(Time::midnight());
        let of_day = seconds_between(midnight, at);
        let until = |seconds: i64| of_day - of_day % seconds + seconds;
        let lacks = |part: &BTreeSet<i16>, n: i8| !part.is_empty() && !part.contains(&i16::from(n));
        let minutes_limit = self.frequency != Frequency::Hourly;
        let resume = if !self.day_fits(at.date()) {
            Some(until(86_400))
        } else if lacks(&self.hours, at.hour()) {
            Some(until(3_600))
        } else if minutes_limit && lacks(&self.minutes, at.minute()) {
            Some(until(60))
        } else {
            None
        };
        if let Some(resume) = resume {
            // The last period that begins before the resumption.
            let most = (passed + resume - of_day - 1).div_euclid(step);
            *period = most.max(*period);
            return Some(Vec::new());
        }
        let mut times = Vec::new();
        let hour = BTreeSet::from([i16::from(at.hour())]);
        match self.frequency {
            Frequency::Hourly => self.push_times(at.date(), &hour, &mut times),
            Frequency::Minutely => {
                let of = |second: &i16| Some(at.with().second(i8::try_from(*second).ok()?));
                times.extend(
                    self.seconds.iter().filter_map(of).filter_map(|with| with.build().ok()),
                );
            }
            _ if lacks(&self.seconds, at.second()) => {}
            _ => times.push(at),
        }
        Some(times)
    }

    fn push_times(&self, day: Date, hours: &BTreeSet<i16>, times: &mut Vec<DateTime>) {
        for hour in hours {
            for minute in &self.minutes {
                for second in &self.seconds {
                    // The parts were read within their ranges.
                    let time = Time::new(*hour as i8, *minute as i8, *second as i8, 0);
                    times.extend(time.ok().map(|time| day.to_datetime(time)));
                }
            }
        }
    }

    fn picked(&self, times: Vec<DateTime>) -> Vec<DateTime> {
        if self.positions.is_empty() {
            return times;
        }
        let count = times.len();
        let picks = |i: usize| fits_from_either_end(&self.positions, i + 1, count);
        times.into_iter().enumerate().filter(|(i, _)| picks(*i)).map(|(_, time)| time).collect()
    }

    /// Whether a day fits every part that speaks of days.
    fn day_fits(&self, day: Date) -> bool {
        let says = |part: &BTreeSet<i16>, n: i16, of: i16| {
            part.is_empty() || fits_from_either_end(part, n as usize, of as usize)
        };
        (self.months.is_empty() || self.months.contains(&i16::from(day.month())))
            && says(&self.year_days, day.day_of_year(), day.days_in_year())
            && says(&self.month_days, i16::from(day.day()), i16::from(day.days_in_month()))
            && (self.week_numbers.is_empty() || self.week_fits(day))
            && (self.week_days.is_empty()
                || self.week_days.iter().any(|one| self.is_day(day, *one)))
    }

    /// Whether `day` is the weekday, or the n-th one of its month or year.
    fn is_day(&self, day: Date, (n, weekday): (Option<i16>, Weekday)) -> bool {
        if day.weekday() != weekday {
            return false;
        }
        let Some(n) = n else { return true };
        let in_month = self.frequency == Frequency::Monthly || !self.months.is_empty();
        let (nth, of) = match in_month {
            true => (i16::from(day.day()), i16::from(day.days_in_month())),
            false => (day.day_of_year(), day.days_in_year()),
        };
        (nth - 1) / 7 + 1 == n || -((of - nth) / 7 + 1) == n
    }

    fn week_fits(&self, day: Date) -> bool {
        let first = |year: i16| Some(self.week_of(Date::new(year, 1, 4).ok()?));
        let of_year = |year: i16| {
            let (first, next) = (first(year)?, first(year.checked_add(1)?)?);
            let weeks = days_between(first, next) / 7;
            let week = days_between(first, day).div_euclid(7) + 1;
            (1..=weeks).contains(&week).then_some((week as usize, weeks as usize))
        };
        let near = [day.year() - 1, day.year(), day.year() + 1];
        let found = near.into_iter().find_map(of_year);
        found.is_some_and(|(week, weeks)| fits_from_either_end(&self.week_numbers, week, weeks))
    }

    /// The first day of the week of `day`.
    fn week_of(&self, day: Date) -> Date {
        let passed = day.weekday().since(self.week_start);
        day.saturating_sub(passed.days())
    }
}

/// Whether the n-th of `of` things is meant, counted from the beginning or, below zero, from the end.
fn fits_from_either_end(part: &BTreeSet<i16>, n: usize, of: usize) -> bool {
    let (n, of) = (n as i64, of as i64);
    part.iter().any(|one| i64::from(*one) == n || i64::from(*one) == n - of - 1)
}

fn days_between(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours() / 24
}

fn seconds_between(from: DateTime, to: DateTime) -> i64 {
    to.duration_since(from).as_secs()
}

/// `None`: longer than the calendar.
fn span_of_days(days: i64) -> Option<jiff::Span> {
    jiff::Span::new().try_days(days).ok()
}

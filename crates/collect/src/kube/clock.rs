//! How far a server's clock is from ours, by the Date of its answers.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use std::sync::{Arc, Mutex};

/// Beyond this nobody knows how long ago something was (ours; hosts with NTP are milliseconds apart).
const DOUBT_SECONDS: f64 = 60.0;
/// A Date tells whole seconds: in the middle of one it is this much off.
const HALF_SECOND: f64 = 0.5;

/// The best look at one server's clock so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<Look>>>);

/// One answer's word on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    /// Seconds that it is ahead of ours.
    ahead: f64,
    /// By how much that may be wrong.
    doubt: f64,
}

impl Look {
    /// The headers of an answer to a question that was sent at `begun` and answered before `ended`. `None`: no Date that is one.
    pub(crate) fn of(headers: &http::HeaderMap, begun: Timestamp, ended: Timestamp) -> Option<Self> {
        let mut dates = headers.get_all(http::header::DATE).iter();
        // Two of them are nobody's word.
        let (date, None) = (dates.next()?.to_str().ok()?, dates.next()) else {
            return None;
        };
        let date = rfc2822::parse(date).ok()?.timestamp();
        Some(Self::at(begun, date, HALF_SECOND, ended))
    }

    /// A time that the server told of its own: `half` is half of the unit that it is told in, in seconds.
    pub(crate) fn at(begun: Timestamp, told: Timestamp, half: f64, ended: Timestamp) -> Self {
        let way = ended.duration_since(begun).as_secs_f64().max(0.0) / 2.0;
        Self {
            ahead: told.duration_since(begun).as_secs_f64() + half - way,
            doubt: way + half,
        }
    }
}

impl Clock {
    pub(crate) fn keep(&self, look: Look) {
        if let Ok(mut best) = self.0.lock()
            && best.is_none_or(|b| look.doubt < b.doubt)
        {
            *best = Some(look);
        }
    }

    pub(crate) fn look(&self) -> Option<Look> {
        self.0.lock().ok().and_then(|best| *best)
    }

    /// It told its time at all.
    pub(crate) fn is_told(&self) -> bool {
        self.look().is_some()
    }

    /// Whole seconds that it is ahead of ours (negative: behind), where that is in doubt by more than a minute.
    pub(crate) fn ahead(&self) -> Option<i64> {
        let best = self.look()?;
        is_doubt(best.ahead.abs() - best.doubt).then_some(best.ahead.round() as i64)
    }
}

pub(crate) fn is_doubt(seconds: f64) -> bool {
    seconds > DOUBT_SECONDS
}

/// "61 min ahead of", "3 h behind".
pub(crate) fn words(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs();
    let much = match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    format!("{much} {}", if ahead > 0 { "ahead of" } else { "behind" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(clock: &Clock, begun: Timestamp, date: &'static str, ended: Timestamp) {
        let headers = [(http::header::DATE, http::HeaderValue::from_static(date))];
        if let Some(look) = Look::of(&headers.into_iter().collect(), begun, ended) {
            clock.keep(look);
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_521_600 + seconds).unwrap()
    }

    #[test]
    fn the_quickest_answer_tells_best() {
        let clock = Clock::default();
        assert_eq!((clock.ahead(), clock.is_told()), (None, false));
        // 2026-11-24T13:00:00Z, an hour ahead, by an answer that took two minutes.
        let date = "Tue, 24 Nov 2026 13:00:00 GMT";
        told(&clock, at(0), date, at(120));
        assert_eq!(clock.ahead(), Some(3541));
        told(&clock, at(0), date, at(0));
        assert_eq!(clock.ahead(), Some(3601));
        for odd in [
            "no date",
            "",
            "2026-11-24T12:00:00Z",
            "Tue, 31 Nov 2026 12:00:00 GMT",
            "9999999999",
        ] {
            told(&clock, at(0), odd, at(0));
        }
        told(&clock, at(0), "Tue, 24 Nov 2026 12:00:00 GMT", at(9));
        assert_eq!(clock.ahead(), Some(3601));
    }

    #[test]
    fn two_dates_are_none() {
        let dates = ["Tue, 24 Nov 2026 13:00:00 GMT", "Tue, 24 Nov 2026 12:00:00 GMT"];
        let headers = dates.map(|d| (http::header::DATE, http::HeaderValue::from_static(d)));
        let mut both = http::HeaderMap::new();
        for (name, date) in headers {
            both.append(name, date);
        }
        assert_eq!(Look::of(&both, at(0), at(0)), None);
        assert_eq!(Look::of(&http::HeaderMap::new(), at(0), at(0)), None);
    }

    #[test]
    fn a_minute_is_no_doubt() {
        let of = |date: &'static str, until: i64| {
            let clock = Clock::default();
            told(&clock, at(0), date, at(until));
            clock.ahead()
        };
        assert_eq!(of("Tue, 24 Nov 2026 12:00:59 GMT", 0), None);
        assert_eq!(of("Tue, 24 Nov 2026 11:57:00 GMT", 0), Some(-180));
        // A slow answer says less.
        assert_eq!(of("Tue, 24 Nov 2026 12:01:30 GMT", 60), None);
    }
}

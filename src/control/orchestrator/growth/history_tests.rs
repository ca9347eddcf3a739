//! Forecasts of loads that are known beforehand.

use proptest::prelude::*;

use super::*;

/// A Monday, 00:00 UTC, and the hours of a week from there.
const START: u32 = 490_560;

fn sample(ops: u32, cpu_milli: u32) -> Sample {
    Sample { active: 3, disk: (0, None), cpu_milli, ops, p99: Some(4000) }
}

/// So many hours of a load.
fn seen(hours: u32, load: impl Fn(u32) -> Sample) -> History {
    let mut history = History::default();
    for hour in 0..hours {
        history.note(START + hour, &load(hour));
    }
    history
}

/// Busy in the day, quiet from 2 to 5.
fn day(hour: u32) -> u32 {
    match hour % DAY {
        2..5 => 10,
        18 => 900,
        _ => 300,
    }
}

#[test]
fn samples_are_folded_into_means_and_peaks() {
    let mut history = History::default();
    for ops in [100, 200, 600] {
        let over = history.note(7, &Sample { disk: (60, Some(40)), ..sample(ops, ops / 10) });
        assert_eq!(over, None);
    }
    let over = history.note(8, &sample(1, 1)).unwrap();
    assert_eq!((over.hour, over.samples, over.active), (7, 3, 3));
    assert_eq!((over.ops_mean, over.ops_peak), (300, 600));
    assert_eq!((over.cpu_mean, over.cpu_peak, over.p99_mean), (30, 60, 4000));
    assert_eq!((over.disk_used, over.disk_all), (60, 100));
    // A clock that was set back is not believed.
    assert_eq!(history.note(7, &sample(9000, 1)), None);
    assert_eq!(history.present().unwrap().hour, 8);
}

#[test]
fn what_was_kept_goes_on_where_it_was() {
    let whole = seen(50, |hour| sample(day(hour), 1));
    let mut again = History::new(whole.hours.values().copied().collect());
    assert_eq!(again.foresee(3), whole.foresee(3));
    again.note(START + 49, &sample(0, 0));
    assert_eq!((again.len(), again.present().unwrap().samples), (50, 2));
}

#[test]
fn four_weeks_are_kept_and_no_hour_more() {
    let history = seen(limits::HOURS_KEPT + 100, |hour| sample(hour, 1));
    assert_eq!(history.len(), limits::HOURS_KEPT);
    let slots: std::collections::BTreeSet<u32> =
        history.hours.values().map(HourRecord::slot).collect();
    assert_eq!(slots.len(), limits::HOURS_KEPT as usize, "each has a place of its own");
}

#[test]
fn the_peak_of_the_week_is_foreseen_at_its_hour() {
    // Fridays at 18:00 are twice as busy.
    let load = |hour: u32| {
        let friday = hour % WEEK / DAY == 4 && hour % DAY == 18;
        sample(if friday { 1800 } else { day(hour) }, 100)
    };
    let foreseen = seen(2 * WEEK, load).foresee(3);
    assert_eq!((foreseen.ops, foreseen.cpu_milli), (1800, 100));
    assert_eq!(foreseen.hour % WEEK, (START + 4 * DAY + 18) % WEEK);
    assert!(foreseen.hour >= START + 2 * WEEK - 1);
}

#[test]
fn a_load_that_grows_a_tenth_a_week_is_foreseen_to_grow_on() {
    let load = |hour: u32| sample([1000, 1100, 1200, 1300][(hour / WEEK) as usize], 0);
    let foreseen = seen(4 * WEEK, load).foresee(3);
    assert!((1390..=1410).contains(&foreseen.ops), "{foreseen:?}");
}

#[test]
fn with_more_to_share_it_the_same_load_is_less_for_each() {
    let mut history = seen(WEEK, |_| sample(600, 300));
    let foreseen = history.foresee(6);
    assert_eq!((foreseen.ops, foreseen.cpu_milli), (300, 150));
    // And the weeks before do not call for another growth.
    for hour in 0..WEEK {
        history.note(START + WEEK + hour, &Sample { active: 6, ..sample(300, 150) });
    }
    let foreseen = history.foresee(6);
    assert_eq!((foreseen.ops, foreseen.cpu_milli), (300, 150));
}

#[test]
fn quiet_hours_are_learned_and_not_before_a_day_was_seen() {
    assert_eq!(seen(20, |hour| sample(day(hour), 1)).quietest(3), None);
    let mut quiet = Vec::new();
    let mut history = seen(3 * DAY, |hour| sample(day(hour), 1));
    for hour in 3 * DAY..4 * DAY {
        history.note(START + hour, &sample(day(hour), 1));
        if history.is_quietest(3) {
            quiet.push((START + hour) % DAY);
        }
    }
    assert_eq!(quiet, [2, 3, 4]);
}

#[test]
fn a_load_that_fell_or_rose_makes_no_busy_hour_a_quiet_one() {
    // Before it all of a week was at another level; then less and less of what is kept.
    let step = 2 * 7 * DAY;
    for (before, after) in [(1000, 1), (1, 1000), (10, 11)] {
        let mut history = History::default();
        for hour in 0..4 * 7 * DAY {
            let level = if hour < step { before } else { after };
            history.note(START + hour, &sample(day(hour) * level, 1));
            if hour > step + DAY {
                let is_night = (2..5).contains(&(hour % DAY));
                assert_eq!(history.is_quietest(3), is_night, "{before} {hour}");
            }
        }
    }
}

#[test]
fn the_day_on_which_a_disk_is_full_is_foreseen_and_one_odd_day_does_not_matter() {
    let disk = |used: u64| Sample { disk: (used, Some(1000 - used)), ..sample(1, 1) };
    let rises = |hour: u32| disk(400 + u64::from(hour / DAY) * 10);
    let days = seen(10 * DAY, rises).disk_days(3).unwrap();
    assert!((29..=31).contains(&days), "{days}");
    let odd = |hour: u32| if hour / DAY == 4 { disk(700) } else { rises(hour) };
    let days = seen(10 * DAY, odd).disk_days(3).unwrap();
    assert!((27..=33).contains(&days), "{days}");
    assert_eq!(seen(10 * DAY, |_| disk(400)).disk_days(3), None, "flat");
    assert_eq!(seen(2 * DAY, rises).disk_days(3), None, "too little");
    assert_eq!(seen(1, |_| disk(850)).disk_days(3), Some(0));
    assert_eq!(seen(10 * DAY, |_| sample(1, 1)).disk_days(3), None, "not known");
}

proptest! {
    #[test]
    fn a_forecast_is_within_what_was_seen_and_its_trend(
        loads in proptest::collection::vec((0u32..5000, 0u32..1000), 1..700),
        active in 1u16..9,
    ) {
        let mut history = History::default();
        for (hour, (ops, cpu)) in (0u32..).zip(&loads) {
            history.note(START + hour, &sample(*ops, *cpu));
        }
        let most = loads.iter().map(|it| f64::from(it.0)).fold(0.0, f64::max);
        let foreseen = history.foresee(active);
        let bound = most * 2.0 * 3.0 / f64::from(active) + 1.0;
        prop_assert!(f64::from(foreseen.ops) <= bound, "{foreseen:?} {bound}");
        prop_assert!(history.len() <= limits::HOURS_KEPT);
    }
}

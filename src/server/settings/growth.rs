//! The settings of growing and shrinking: `docs/growth.md`.

use core::time::Duration;

use super::refuse;
use crate::config::{self, Config, ConfigError};
use crate::node::{Grow, NodeConfig, QuietHours};

/// How far below the upper threshold the lower one stays at least, of a tenth: else one move could call for the
/// other.
const BELOW_TENTHS: f64 = 6.0;
const MINUTES: u32 = 24 * 60;

/// `node` with these settings.
pub(super) fn settings(config: &Config, node: NodeConfig) -> Result<NodeConfig, ConfigError> {
    let section = &config.orchestrator;
    let (above, below) = (section.grow_above, section.shrink_below);
    if !(above > 0.0 && above <= 1.0) {
        return refuse(format!(
            "orchestrator.grow_above is {above}; it must be above 0, at most 1"
        ));
    }
    if !(0.0..=above * BELOW_TENTHS / 10.0).contains(&below) {
        return refuse(format!(
            "orchestrator.shrink_below is {below}; it must be 0..0.6 of grow_above, which is {above}"
        ));
    }
    let interval = section.sample_interval;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
    if !interval.is_zero() && !bounds.contains(&interval) {
        return refuse(format!(
            "orchestrator.sample_interval is {interval:?}; it must be 1s to 1h, or 0s"
        ));
    }
    let mode = |mode: config::Grow| match mode {
        config::Grow::Off => Grow::Off,
        config::Grow::Suggest => Grow::Suggest,
        config::Grow::Auto => Grow::Auto,
    };
    Ok(NodeConfig {
        grow: mode(section.grow),
        exchange: mode(section.exchange),
        grow_above_milli: milli(above),
        shrink_below_milli: milli(below),
        grow_operations: section.grow_operations,
        grow_after: section.grow_after,
        history_min: section.history_min,
        quiet_hours: quiet_hours(&section.quiet_hours)?,
        sample_interval: interval,
        ..node
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1, checked")]
fn milli(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}

/// `auto`, or a time of the day to another, in UTC.
fn quiet_hours(text: &str) -> Result<QuietHours, ConfigError> {
    if text == "auto" {
        return Ok(QuietHours::Auto);
    }
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        let at = hour.checked_mul(60)?.checked_add(minute)?;
        (minute < 60 && at <= MINUTES).then_some(at)
    };
    let both = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    match both {
        Some((from, to)) if from < MINUTES && from != to => Ok(QuietHours::Daily { from, to }),
        _ => refuse(format!(
            "orchestrator.quiet_hours is {text:?}; it must be auto, or two times of the day in UTC: \
             \"02:00-05:00\", \"23:00-02:00\", \"00:00-24:00\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeName;

    fn with(set: impl FnOnce(&mut Config)) -> Result<NodeConfig, ConfigError> {
        let mut config = Config::default();
        set(&mut config);
        let name = "n1".parse::<NodeName>().unwrap();
        settings(&config, NodeConfig::new(name, Vec::new()))
    }

    #[test]
    fn quiet_hours_are_auto_or_two_times_of_a_day() {
        for (text, from, to) in
            [("02:00-05:00", 120, 300), ("23:30-2:00", 1410, 120), ("00:00-24:00", 0, 1440)]
        {
            assert_eq!(quiet_hours(text), Ok(QuietHours::Daily { from, to }));
        }
        assert_eq!(quiet_hours("auto"), Ok(QuietHours::Auto));
        for bad in ["", "2", "02:00", "02:00-02:00", "02:60-03:00", "24:00-01:00", "01:00-24:01"] {
            let error = quiet_hours(bad).unwrap_err();
            assert!(error.0.contains("orchestrator.quiet_hours"), "{bad}: {error}");
        }
    }

    #[test]
    fn thresholds_are_far_enough_from_each_other() {
        let node = with(|_| {}).unwrap();
        assert_eq!((node.grow_above_milli, node.shrink_below_milli), (700, 300));
        assert_eq!((node.grow, node.sample_interval), (Grow::Suggest, Duration::from_secs(60)));
        for (above, below, key) in
            [(0.0, 0.0, "grow_above"), (1.1, 0.3, "grow_above"), (0.5, 0.31, "shrink_below")]
        {
            let error = with(|config| {
                config.orchestrator.grow_above = above;
                config.orchestrator.shrink_below = below;
            });
            assert!(error.unwrap_err().0.contains(key), "{above} {below}");
        }
        let error = with(|it| it.orchestrator.sample_interval = Duration::from_millis(10));
        assert!(error.unwrap_err().0.contains("sample_interval"));
    }
}

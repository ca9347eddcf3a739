//! One entry of `[cluster] founders`: `name=host:peerport[@zone][;weight=W][;role=reserved]`.

use crate::types::{Founder, Role, Zone};

/// Largest weight, in units of 1; `limits::WEIGHT_MILLI_MAX` is the same.
const WEIGHT_MAX: f64 = 1000.0;

/// Reads one entry.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_founder(text: &str) -> Result<Founder, String> {
    let wrong = |what: String| format!("founder {text:?}: {what}");
    let form = || wrong("expected name=host:peerport[@zone][;weight=W][;role=reserved]".to_owned());
    let mut parts = text.trim().split(';');
    let (name, place) = parts.next().and_then(|head| head.split_once('=')).ok_or_else(form)?;
    let (address, zone) = match place.split_once('@') {
        Some((address, zone)) => (address, zone.parse().map_err(wrong)?),
        None => (place, Zone::default()),
    };
    check_address(address).map_err(wrong)?;
    let mut founder = Founder {
        name: name.trim().parse().map_err(wrong)?,
        peer_address: address.to_owned(),
        zone,
        weight_milli: 1000,
        role: Role::Active,
    };
    for option in parts {
        match option.split_once('=') {
            Some(("weight", weight)) => {
                founder.weight_milli = weight_milli(weight).map_err(wrong)?
            }
            Some(("role", "reserved")) => founder.role = Role::Reserved,
            Some(("role", "active")) => founder.role = Role::Active,
            _ => return Err(wrong(format!("{option:?} is neither weight=W nor role=reserved"))),
        }
    }
    Ok(founder)
}

/// Checks that `address` is `host:port`.
///
/// # Errors
/// It is not.
pub fn check_address(address: &str) -> Result<(), String> {
    let bad = || format!("{address:?} is not host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() && host.chars().all(plain) => Ok(()),
        Ok(_) | Err(_) => Err(bad()),
    }
}

/// A weight in thousandths.
///
/// # Errors
/// It is out of bounds, or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be above 0 and at most a thousand"
)]
pub fn weight_milli(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(weight) if (0.001..=WEIGHT_MAX).contains(&weight) => {
            Ok((weight * 1000.0).round() as u32)
        }
        Ok(_) | Err(_) => Err(format!("weight {text:?} is not within 0.001..={WEIGHT_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_in_all_its_forms() {
        let plain = parse_founder("n1=host:7451").unwrap();
        assert_eq!((plain.weight_milli, plain.role), (1000, Role::Active));
        assert_eq!(plain.zone, Zone::default());
        let full = parse_founder("n2=[::1]:7451@b;weight=0.5;role=reserved").unwrap();
        assert_eq!(full.peer_address, "[::1]:7451");
        assert_eq!((full.zone.as_str(), full.weight_milli), ("b", 500));
        assert_eq!(full.role, Role::Reserved);
    }

    #[test]
    fn a_wrong_entry_is_quoted_in_the_error() {
        for bad in [
            "",
            "n1",
            "n1=host",
            "n1=:1",
            "n1=h:0",
            "n1=h:1@",
            "N=h:1",
            "n=h:1;w=2",
            "n=h:1;weight=0",
        ] {
            let error = parse_founder(bad).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}

//! How far the purge floors of units are, between `message` and `proto/peer.proto`.

use crate::message::FloorNews;
use crate::types::{ClassId, Epoch, Partition, Stamp, Unit, limits};

use super::peer::{Malformed, narrow, stamp_from_wire, stamp_to_wire};
use super::proto::peer as pb;

/// Zero is left out.
pub(super) fn bound_to_wire(stamp: Stamp) -> Option<pb::Stamp> {
    (stamp != Stamp::ZERO).then(|| stamp_to_wire(stamp))
}

pub(super) fn bound_from_wire(stamp: Option<pb::Stamp>) -> Stamp {
    stamp.map_or(Stamp::ZERO, stamp_from_wire)
}

pub(super) fn floors_to_wire(news: Vec<FloorNews>) -> pb::Floors {
    let unit = |news: FloorNews| pb::floors::Floor {
        class: news.unit.class.0.into(),
        partition: news.unit.partition.0.into(),
        fence: news.fence.0,
        vouched: bound_to_wire(news.vouched),
        agreed: bound_to_wire(news.agreed),
        floor: bound_to_wire(news.floor),
    };
    pb::Floors { units: news.into_iter().map(unit).collect() }
}

pub(super) fn floors_from_wire(floors: pb::Floors) -> Result<Vec<FloorNews>, Malformed> {
    if floors.units.len() > limits::FLOOR_NEWS_MAX {
        return Err(Malformed::new(format!("news of {} floors", floors.units.len())));
    }
    floors.units.into_iter().map(floor_from_wire).collect()
}

fn floor_from_wire(news: pb::floors::Floor) -> Result<FloorNews, Malformed> {
    let unit = Unit {
        class: ClassId(narrow(news.class, "class")?),
        partition: Partition(narrow(news.partition, "partition")?),
    };
    Ok(FloorNews {
        unit,
        fence: Epoch(news.fence),
        vouched: bound_from_wire(news.vouched),
        agreed: bound_from_wire(news.agreed),
        floor: bound_from_wire(news.floor),
    })
}

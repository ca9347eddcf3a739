//! Tests of the ring's picture.

use super::{KeyMarker, PictureLoss, PictureMember, PictureMove, RingPicture, ring_svg};
use crate::types::NodeId;

fn member(id: u32, zone: &str, is_down: bool) -> PictureMember {
    PictureMember { id: NodeId(id), name: format!("n{id}"), zone: zone.to_owned(), is_down }
}

fn picture() -> RingPicture {
    RingPicture {
        title: "demo, epoch 7".to_owned(),
        spots: [1, 2, 3, 4, 2, 1, 4, 3, 3, 1, 2, 4, 4, 4, 1, 3, 2, 2, 3, 1].map(NodeId).to_vec(),
        members: vec![
            member(1, "a", false),
            member(2, "b", true),
            member(3, "c", false),
            member(4, "a", false),
            member(5, "b", false),
        ],
        moving: vec![PictureMove { partition: 7, to: vec![NodeId(5)] }],
        marker: Some(KeyMarker {
            label: "user:1".to_owned(),
            token: 0x3b57_7afd_7fed_9501,
            members: [2, 1, 3, 4].map(NodeId).to_vec(),
            n_owners: 3,
        }),
        losses: Vec::new(),
    }
}

/// Checks that tags are balanced, which a document that was escaped wrongly is not.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for (at, _) in svg.match_indices('<') {
        let tag = &svg[at + 1..at + svg[at..].find('>').expect("every tag ends")];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed at byte {at}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn every_arc_says_who_owns_it() {
    let svg = ring_svg(&picture());
    assert_well_formed(&svg);
    assert!(svg.contains("<title>partition 0: n1, zone a</title>"));
    assert!(
        svg.contains("<title>partitions 11 to 13: n4, zone a</title>"),
        "neighbours are merged"
    );
    assert!(svg.contains("<title>partition 1: n2, zone b, down</title>"));
    assert_eq!(svg.matches("url(#down)").count(), 4 + 1, "four arcs and one legend entry");
}

#[test]
fn partitions_on_the_move_are_marked_in_the_colour_of_who_gets_them() {
    let svg = ring_svg(&picture());
    assert!(svg.contains("<title>partition 7 moves to n5</title>"));
    assert!(svg.contains("1 partition on the move"));
    let still = ring_svg(&RingPicture { moving: Vec::new(), ..picture() });
    assert!(!still.contains("moves to") && !still.contains("n5"));
    let mut many = picture();
    let to = vec![NodeId(1), NodeId(2)];
    many.moving = (0..5000).map(|partition| PictureMove { partition, to: to.clone() }).collect();
    let svg = ring_svg(&many);
    assert_well_formed(&svg);
    assert!(svg.len() < 600 << 10, "{} bytes", svg.len());
}

/// How it looks is pinned. Whoever means to change it looks at the new one first.
#[test]
fn the_picture_of_a_known_ring_does_not_change_unseen() {
    let (svg, golden) = (ring_svg(&picture()), include_str!("ring_golden.svg"));
    let differ = svg.lines().zip(golden.lines()).find(|(now, then)| now != then);
    assert!(svg == golden, "first line that differs, now and then: {differ:?}\n{svg}");
}

#[test]
fn the_key_and_its_preference_list_are_marked() {
    let svg = ring_svg(&picture());
    assert!(svg.contains("user:1, token 3b577afd7fed9501"));
    for title in ["owner 1: n2", "owner 2: n1", "owner 3: n3", "stand-in 4: n4"] {
        assert!(svg.contains(title), "{title}");
    }
}

#[test]
fn names_cannot_break_out_of_the_picture() {
    let mut picture = picture();
    picture.title = "<script>alert('x')</script>&\u{1}".to_owned();
    picture.members[0].name = "\"><g onload=\"x".to_owned();
    picture.members[0].zone = "</title>".to_owned();
    let svg = ring_svg(&picture);
    assert_well_formed(&svg);
    assert!(!svg.contains("<script") && !svg.contains("<g ") && !svg.contains('\u{1}'));
}

#[test]
fn rings_of_one_spot_of_none_and_of_very_many_are_drawn_within_bounds() {
    let one = RingPicture { spots: vec![NodeId(9)], ..RingPicture::default() };
    let svg = ring_svg(&one);
    assert!(svg.contains("<title>partition 0: node 9</title>"));
    assert_well_formed(&ring_svg(&RingPicture::default()));

    let mut many = picture();
    many.spots = (0..65_536).map(|spot| NodeId(1 + spot % 1000)).collect();
    let svg = ring_svg(&many);
    assert_well_formed(&svg);
    assert!(svg.len() < 400 << 10, "{} bytes", svg.len());
    assert!(svg.contains("and 980 more"));
}

#[test]
fn what_a_partition_lacks_is_marked_named_and_counted() {
    let losses = vec![(3, PictureLoss::Writes), (9, PictureLoss::Data), (11, PictureLoss::Data)];
    let svg = ring_svg(&RingPicture { losses, ..picture() });
    assert_well_formed(&svg);
    assert!(svg.contains("partition 3: cannot be written"));
    assert!(svg.contains(">2 no complete copy is left<") && svg.contains(">1 cannot be written<"));
    assert!(!ring_svg(&picture()).contains("no complete copy"));
}

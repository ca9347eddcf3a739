//! The ring: a band with the owner of each virtual node by colour, hatched where the owner is down, an
//! inner band with their zones, an outer one with the partitions on the move, in the colour of who gets
//! them; and, for one key, where it stands and who answers for it.

use core::fmt::Write as _;

use super::svg::{Circle, Escaped, member_colour, zone_colour};
use crate::types::NodeId;

/// What to draw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingPicture {
    /// The heading, for example the cluster's name and its epoch.
    pub title: String,
    /// The owner of each virtual node, in token order.
    pub spots: Vec<NodeId>,
    /// Who the owners are. Owners that are missing here are drawn by number.
    pub members: Vec<PictureMember>,
    /// Partitions on the move.
    pub moving: Vec<PictureMove>,
    /// A key and its preference list.
    pub marker: Option<KeyMarker>,
    /// Partitions that lack something, by their place on the ring: marked on the outside.
    pub losses: Vec<(u32, PictureLoss)>,
}

/// What a partition lacks; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PictureLoss {
    /// It cannot be written.
    Writes,
    /// It cannot be read.
    Reads,
    /// It has no complete copy.
    Data,
}

impl PictureLoss {
    /// Colour, and words.
    fn look(self) -> (&'static str, &'static str) {
        match self {
            PictureLoss::Writes => ("#e69f3c", "cannot be written"),
            PictureLoss::Reads => ("#d5453a", "cannot be read"),
            PictureLoss::Data => ("#1f2933", "no complete copy is left"),
        }
    }
}

/// A partition on the move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureMove {
    /// Its place on the ring.
    pub partition: u32,
    /// Who gets it, or has just got it; at least one.
    pub to: Vec<NodeId>,
}

/// A member as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureMember {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Whether it is drawn as down.
    pub is_down: bool,
}

/// A key on the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMarker {
    /// What to call it.
    pub label: String,
    /// Its token.
    pub token: u64,
    /// Owners first, then stand-ins.
    pub members: Vec<NodeId>,
    /// How many of them are owners.
    pub n_owners: usize,
}

const CENTRE: Circle = Circle { x: 250.0, y: 250.0 };
const OUTER: f64 = 200.0;
const INNER: f64 = 152.0;
const ZONE_OUTER: f64 = 147.0;
const ZONE_INNER: f64 = 137.0;
const MOVE_INNER: f64 = 204.0;
const MOVE_OUTER: f64 = 213.0;
const LOSS_INNER: f64 = 216.0;
const LOSS_OUTER: f64 = 226.0;

/// More arcs than this cannot be told apart on a screen: longer rings are drawn by every k-th spot.
const ARCS_MAX: usize = 1024;
/// Longer legends are cut, with a line that says how many members are left out.
const LEGEND_ROWS_MAX: usize = 20;
/// Members of a preference list that get a number on the ring.
const BADGES_MAX: usize = 9;
/// On finer rings the numbers would cover each other: there the list below the legend says it all.
const BADGED_SPOTS_MAX: usize = 64;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2933}\
.quiet{fill:#66788a}.edge{stroke:#ffffff;stroke-width:.8}.spoke{stroke:#1f2933;stroke-width:2}\
.badge{fill:#1f2933}.stand{fill:#ffffff;stroke:#1f2933;stroke-width:1.5}.badge-text{fill:#ffffff}\
.stand-text{fill:#1f2933}\
@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.quiet{fill:#9aa9b8}.edge{stroke:#14191f}\
.spoke{stroke:#e4e9ee}.badge{fill:#e4e9ee}.badge-text{fill:#14191f}\
.stand{fill:#14191f;stroke:#e4e9ee}.stand-text{fill:#e4e9ee}}";

/// Draws the ring. The text is a whole SVG document, at most about 400 kB, whatever the input's
/// length; names and titles are cut after 64 characters.
pub fn ring_svg(picture: &RingPicture) -> String {
    let mut drawing = Drawing::new(picture);
    drawing.head();
    drawing.arcs();
    drawing.moves();
    drawing.losses();
    drawing.middle();
    drawing.marker();
    let below = drawing.legend();
    drawing.preference(below);
    drawing.out.push_str("</svg>\n");
    drawing.out
}

struct Drawing<'a> {
    picture: &'a RingPicture,
    /// The members that own something, or get it, by id.
    owners: Vec<NodeId>,
    /// Their zones, sorted.
    zones: Vec<&'a str>,
    out: String,
}

impl<'a> Drawing<'a> {
    fn new(picture: &'a RingPicture) -> Drawing<'a> {
        let mut owners = picture.spots.clone();
        owners.extend(picture.moving.iter().flat_map(|moving| &moving.to));
        owners.sort_unstable();
        owners.dedup();
        let is_owner = |member: &&PictureMember| owners.binary_search(&member.id).is_ok();
        let mut zones: Vec<&str> =
            picture.members.iter().filter(is_owner).map(|member| member.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        Drawing { picture, owners, zones, out: String::new() }
    }

    fn add(&mut self, text: core::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("writing to a String cannot fail");
    }

    fn member(&self, id: NodeId) -> Option<&'a PictureMember> {
        self.picture.members.iter().find(|member| member.id == id)
    }

    fn name(&self, id: NodeId) -> String {
        self.member(id).map_or_else(|| format!("node {id}"), |member| cut(&member.name))
    }

    fn is_down(&self, id: NodeId) -> bool {
        self.member(id).is_some_and(|member| member.is_down)
    }

    fn colour(&self, id: NodeId) -> &'static str {
        member_colour(self.owners.binary_search(&id).unwrap_or(usize::MAX))
    }

    fn zone_index(&self, id: NodeId) -> usize {
        let zone = self.member(id).map_or("", |member| member.zone.as_str());
        self.zones.binary_search(&zone).unwrap_or(0)
    }

    fn head(&mut self) {
        let listed = |marker: &KeyMarker| marker.members.len().min(BADGES_MAX) + 2;
        let rows = self.owners.len().min(LEGEND_ROWS_MAX + 1)
            + self.picture.marker.as_ref().map_or(0, listed);
        let height = (60 + 24 * rows).max(500);
        self.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height}\" \
             width=\"800\" height=\"{height}\" role=\"img\" aria-labelledby=\"ring-title ring-desc\">\
             \n<title id=\"ring-title\">{}</title>\n<desc id=\"ring-desc\">A ring of {} virtual nodes \
             owned by {} members in {} zones.</desc>\n<style>{STYLE}</style>\n\
             <defs><pattern id=\"down\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#e4e9ee\" \
             fill-opacity=\".55\"/><rect width=\"2.4\" height=\"6\" fill=\"#3e4c59\" \
             fill-opacity=\".75\"/></pattern></defs>\n",
            Escaped(&cut(&self.picture.title)),
            self.picture.spots.len(),
            self.owners.len(),
            self.zones.len().max(1),
        ));
    }

    /// Neighbouring spots of one owner are one arc.
    fn arcs(&mut self) {
        let spots = &self.picture.spots;
        let stride = spots.len().div_ceil(ARCS_MAX).max(1);
        let whole = to_float(spots.len().max(1));
        let mut start = 0;
        while let Some(owner) = spots.get(start).copied() {
            let mut end = start + stride;
            while spots.get(end) == Some(&owner) {
                end += stride;
            }
            let end = end.min(spots.len());
            let (from, to) = (to_float(start) / whole, to_float(end) / whole);
            let range = match end - start {
                1 => format!("partition {start}"),
                _ => format!("partitions {start} to {}", end - 1),
            };
            self.arc(owner, from, to, &range);
            start = end;
        }
    }

    fn arc(&mut self, owner: NodeId, from: f64, to: f64, range: &str) {
        let fill = self.colour(owner);
        let zone = self.member(owner).map_or(String::new(), |m| format!(", zone {}", cut(&m.zone)));
        let down = if self.is_down(owner) { ", down" } else { "" };
        self.add(format_args!(
            "<path class=\"edge\" fill=\"{fill}\" d=\"{}\"><title>{range}: {}{}{down}</title></path>\n",
            CENTRE.sector(from, to, INNER, OUTER),
            Escaped(&self.name(owner)),
            Escaped(&zone),
        ));
        if self.is_down(owner) {
            let hatched = CENTRE.sector(from, to, INNER, OUTER);
            self.add(format_args!(
                "<path fill=\"url(#down)\" pointer-events=\"none\" d=\"{hatched}\"/>\n"
            ));
        }
        if self.zones.len() > 1 {
            let colour = zone_colour(self.zone_index(owner));
            let band = CENTRE.sector(from, to, ZONE_INNER, ZONE_OUTER);
            self.add(format_args!("<path fill=\"{colour}\" d=\"{band}\"/>\n"));
        }
    }

    /// A mark outside each partition on the move, in the colours of those who get it. On rings that are
    /// drawn by every k-th spot marks of the same k-th part lie upon each other.
    fn moves(&mut self) {
        let whole = to_float(self.picture.spots.len().max(1));
        for moving in self.picture.moving.iter().take(ARCS_MAX) {
            // A mark of less than this is not seen.
            let width = (1.0 / whole).max(0.002) / to_float(moving.to.len().max(1));
            let names: Vec<String> = moving.to.iter().map(|id| self.name(*id)).collect();
            let title = format!("partition {} moves to {}", moving.partition, names.join(", "));
            for (index, member) in moving.to.iter().enumerate() {
                let from = f64::from(moving.partition) / whole + width * to_float(index);
                let sector = CENTRE.sector(from, from + width, MOVE_INNER, MOVE_OUTER);
                let fill = self.colour(*member);
                self.add(format_args!(
                    "<path fill=\"{fill}\" d=\"{sector}\"><title>{}</title></path>\n",
                    Escaped(&title),
                ));
            }
        }
    }

    /// A mark outside each partition that lacks something, beyond those on the move.
    fn losses(&mut self) {
        let whole = to_float(self.picture.spots.len().max(1));
        for (partition, loss) in self.picture.losses.iter().take(ARCS_MAX) {
            let from = f64::from(*partition) / whole;
            let to = from + (1.0 / whole).max(0.002);
            let sector = CENTRE.sector(from, to, LOSS_INNER, LOSS_OUTER);
            let (fill, words) = loss.look();
            self.add(format_args!(
                "<path fill=\"{fill}\" stroke=\"#9aa5b1\" stroke-width=\".3\" d=\"{sector}\">\
                 <title>partition {partition}: {words}</title></path>\n"
            ));
        }
    }

    fn middle(&mut self) {
        let down = self.owners.iter().filter(|id| self.is_down(**id)).count();
        let mut lines = vec![
            ("17", "", cut(&self.picture.title)),
            ("13", "quiet", format!("{} virtual nodes", self.picture.spots.len())),
            ("13", "quiet", counted(self.owners.len(), "member")),
        ];
        if self.zones.len() > 1 {
            lines.push(("13", "quiet", counted(self.zones.len(), "zone")));
        }
        if down > 0 {
            lines.push(("13", "", format!("{down} down")));
        }
        if !self.picture.moving.is_empty() {
            let moving = counted(self.picture.moving.len(), "partition");
            lines.push(("13", "", format!("{moving} on the move")));
        }
        for loss in [PictureLoss::Writes, PictureLoss::Reads, PictureLoss::Data] {
            let marked = self.picture.losses.iter().filter(|(_, found)| *found == loss).count();
            if marked > 0 {
                lines.push(("13", "", format!("{marked} {}", loss.look().1)));
            }
        }
        let mut y = CENTRE.y - 10.0 * to_float(lines.len() - 1);
        for (size, class, text) in lines {
            self.add(format_args!(
                "<text x=\"{}\" y=\"{y}\" font-size=\"{size}\" class=\"{class}\" \
                 text-anchor=\"middle\">{}</text>\n",
                CENTRE.x,
                Escaped(&text),
            ));
            y += 22.0;
        }
    }

    /// The key's position, and a number at the virtual node by which each member of its preference
    /// list is reached.
    fn marker(&mut self) {
        let Some(marker) = &self.picture.marker else { return };
        let spots = &self.picture.spots;
        if spots.is_empty() {
            return;
        }
        // The top 32 bits say where on a screen; f64 holds them exactly.
        let turn = f64::from(u32::try_from(marker.token >> 32).unwrap_or(0)) / 4_294_967_296.0;
        let ((ax, ay), (bx, by)) =
            (CENTRE.at(turn, ZONE_INNER - 6.0), CENTRE.at(turn, OUTER + 16.0));
        self.add(format_args!(
            "<line class=\"spoke\" x1=\"{ax:.2}\" y1=\"{ay:.2}\" x2=\"{bx:.2}\" y2=\"{by:.2}\">\
             <title>{label}, token {token:016x}</title></line>\n",
            label = Escaped(&cut(&marker.label)),
            token = marker.token,
        ));
        let (x, y) = CENTRE.at(turn, OUTER + 20.0);
        self.add(format_args!("<circle class=\"badge\" cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"5\"/>\n"));
        if spots.len() > BADGED_SPOTS_MAX {
            return;
        }
        let home =
            usize::try_from((u128::from(marker.token) * wide(spots.len())) >> 64).unwrap_or(0);
        for (rank, member) in marker.members.iter().take(BADGES_MAX).enumerate() {
            let walk = (0..spots.len()).map(|step| (home + step) % spots.len());
            let Some(spot) = walk.into_iter().find(|spot| spots.get(*spot) == Some(member)) else {
                continue;
            };
            let turn = (to_float(spot) + 0.5) / to_float(spots.len());
            // Neighbouring badges stand on two rows, so that they stay apart on a fine ring.
            let radius = if rank % 2 == 0 { 186.0 } else { 165.0 };
            self.badge(CENTRE.at(turn, radius), rank, *member);
        }
    }

    /// A number in a circle: filled for an owner, hollow for a stand-in.
    fn badge(&mut self, (x, y): (f64, f64), rank: usize, member: NodeId) {
        let n_owners = self.picture.marker.as_ref().map_or(0, |marker| marker.n_owners);
        let (class, what) =
            if rank < n_owners { ("badge", "owner") } else { ("stand", "stand-in") };
        self.add(format_args!(
            "<circle class=\"{class}\" cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"9\"><title>{what} {n}: {}\
             </title></circle><text class=\"{class}-text\" x=\"{x:.2}\" y=\"{:.2}\" \
             font-size=\"12\" font-weight=\"700\" text-anchor=\"middle\" \
             pointer-events=\"none\">{n}</text>\n",
            Escaped(&self.name(member)),
            y + 4.2,
            n = rank + 1,
        ));
    }

    /// The preference list of the key, in words, below the legend.
    fn preference(&mut self, top: i32) {
        let Some(marker) = &self.picture.marker else { return };
        let mut y = top + 24;
        self.add(format_args!(
            "<text x=\"520\" y=\"{y}\" font-size=\"14\" font-weight=\"600\">{}</text>\n",
            Escaped(&cut(&marker.label)),
        ));
        for (rank, member) in marker.members.iter().take(BADGES_MAX).enumerate() {
            y += 24;
            self.badge((529.0, f64::from(y) - 5.0), rank, *member);
            let what = if rank < marker.n_owners { "owner" } else { "stand-in" };
            let down = if self.is_down(*member) { ", down" } else { "" };
            self.add(format_args!(
                "<text x=\"546\" y=\"{y}\" font-size=\"14\">{}</text>\
                 <text x=\"682\" y=\"{y}\" font-size=\"13\" class=\"quiet\">{what}{down}</text>\n",
                Escaped(&short(&self.name(*member))),
            ));
        }
    }

    /// Draws who is who, and returns where the legend ends.
    fn legend(&mut self) -> i32 {
        let owners: Vec<NodeId> = self.owners.iter().copied().take(LEGEND_ROWS_MAX).collect();
        let mut y = 56;
        for id in owners {
            let fill = self.colour(id);
            let count = self.picture.spots.iter().filter(|spot| **spot == id).count();
            let percent = to_float(count) * 100.0 / to_float(self.picture.spots.len().max(1));
            let zone = self.member(id).map_or("", |member| member.zone.as_str());
            let zone = if self.zones.len() > 1 { short(zone) } else { String::new() };
            let state = if self.is_down(id) { "down" } else { "" };
            let swatch = zone_colour(self.zone_index(id));
            self.add(format_args!(
                "<rect x=\"520\" y=\"{}\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{fill}\"/>\
                 <text x=\"544\" y=\"{y}\" font-size=\"14\">{}</text>\
                 <text x=\"652\" y=\"{y}\" font-size=\"13\" class=\"quiet\" text-anchor=\"end\">\
                 {percent:.1} %</text>",
                y - 12,
                Escaped(&short(&self.name(id))),
            ));
            if self.is_down(id) {
                self.add(format_args!(
                    "<rect x=\"520\" y=\"{}\" width=\"14\" height=\"14\" rx=\"3\" fill=\"url(#down)\"/>",
                    y - 12,
                ));
            }
            if !zone.is_empty() {
                self.add(format_args!(
                    "<circle cx=\"670\" cy=\"{}\" r=\"5\" fill=\"{swatch}\"/>\
                     <text x=\"682\" y=\"{y}\" font-size=\"13\" class=\"quiet\">{}</text>",
                    y - 5,
                    Escaped(&zone),
                ));
            }
            self.add(format_args!(
                "<text x=\"782\" y=\"{y}\" font-size=\"13\" text-anchor=\"end\">{state}</text>\n"
            ));
            y += 24;
        }
        let left_out = self.owners.len().saturating_sub(LEGEND_ROWS_MAX);
        if left_out > 0 {
            self.add(format_args!(
                "<text x=\"544\" y=\"{y}\" font-size=\"13\" class=\"quiet\">and {left_out} more</text>\n"
            ));
            y += 24;
        }
        y
    }
}

fn counted(count: usize, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}

/// The first 64 characters.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The first 12 characters, with a sign that there are more.
fn short(text: &str) -> String {
    match text.char_indices().nth(12) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text)),
        None => text.to_owned(),
    }
}

fn to_float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn wide(count: usize) -> u128 {
    u128::try_from(count).unwrap_or(0)
}

//! The page a person sees on the HTTP port: what this node is, whom it knows, and who owns how much
//! of the ring. Plain HTML that works without scripts; says what the node knows and nothing more.

mod requests;
mod well;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::message::{Liveness, MemberView, Phase, Placement, View};
use crate::picture::{PictureMember, PictureMove, RingPicture, ring_svg};
use crate::telemetry::Slice;
use crate::types::{ClusterState, NodeId, Partition};

/// What the node says about how far it has come.
pub fn phase_text(phase: &Phase) -> (&'static str, &str) {
    match phase {
        Phase::Founding(why) => ("founding", why),
        Phase::Registering(why) => ("registering", why),
        Phase::Serving => ("serving", ""),
        Phase::Draining => ("draining", "finishing what was begun"),
        Phase::Refused(why) => ("refused", why),
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem;\
border-bottom:1px solid #ddd}td.n,th.n{text-align:right}code{background:#f3f3f3;padding:.1rem .3rem}\
.bad td{color:#b00;font-weight:bold}.bar{background:#47a;height:.7rem;display:inline-block;vertical-align:middle}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}.bad td{color:#f88}code{background:#333}}\
svg{max-width:100%;height:auto}";

/// Renders the page. `recent` has what was asked of the node in the last minutes, the oldest slice first.
pub fn render(view: Option<&View>, recent: &[Slice]) -> String {
    framed(|page| match view {
        Some(view) => body(page, view, recent),
        None => page.push_str("<h1>kvd</h1><p>The node is starting.</p>"),
    })
}

/// Renders the page of a process that has no node to ask yet: how far it has come, and what for it
/// waits.
pub fn render_waiting(phase: &str, why: &str) -> String {
    framed(|page| {
        // Writing to a string does not fail, here and below.
        let _ = write!(page, "<h1>kvd</h1><p>{}: {}</p>", escape(phase), escape(why));
    })
}

fn framed(content: impl FnOnce(&mut String)) -> String {
    let mut page = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    let _ = write!(page, "<title>kvd</title><style>{STYLE}</style></head><body>");
    content(&mut page);
    page.push_str("<p><a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a></p>");
    page.push_str("</body></html>\n");
    page
}

fn body(page: &mut String, view: &View, recent: &[Slice]) {
    let (phase, why) = phase_text(&view.phase);
    let _ = write!(
        page,
        "<h1>{}</h1><p>Cluster <code>{}</code>, {}{}</p>",
        escape(view.hello.name.as_str()),
        escape(&view.hello.cluster_name),
        phase,
        if why.is_empty() { String::new() } else { format!(": {}", escape(why)) },
    );
    match &view.state {
        Some(state) => members(page, view, state, recent),
        None => founders(page, view),
    }
}

fn founders(page: &mut String, view: &View) {
    page.push_str("<h2>Founders</h2><table><tr><th>node</th><th>address</th><th>state</th></tr>");
    for member in &view.members {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(member.name.as_str()),
            escape(&member.peer_address),
            member.liveness.as_str(),
        );
    }
    page.push_str("</table>");
}

fn members(page: &mut String, view: &View, state: &ClusterState, recent: &[Slice]) {
    let _ = write!(
        page,
        "<p>Epoch {}, {} partitions, id <code>{}</code></p><h2>Nodes</h2><table><tr><th>node</th>\
         <th>peer address</th><th>zone</th><th>role</th><th>state</th><th class=\"n\">partitions</th>\
         <th>share of the ring</th></tr>",
        state.epoch, state.settings.partitions, state.cluster,
    );
    let mut held: BTreeMap<NodeId, u32> = BTreeMap::new();
    for owner in &state.ring {
        *held.entry(*owner).or_default() += 1;
    }
    for member in &state.members {
        let liveness = match seen(view, member.id) {
            Some(MemberView { left_out: Some(why), .. }) => &format!("left out of reads: {why}"),
            Some(seen) => seen.liveness.as_str(),
            None if member.id == view.hello.id => "this node",
            None => "unknown",
        };
        let count = held.get(&member.id).copied().unwrap_or_default();
        let percent = f64::from(count) * 100.0 / f64::from(state.settings.partitions.max(1));
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td>\
             <td><span class=\"bar\" style=\"width:{percent:.1}%\"></span> {percent:.1}&thinsp;%</td></tr>",
            escape(member.name.as_str()),
            escape(&member.addresses.peer),
            escape(member.zone.as_str()),
            member.role.as_str(),
            liveness,
            count,
        );
    }
    page.push_str("</table>");
    well::render(page, view, state);
    requests::render(page, recent);
    tables(page, state);
    page.push_str("<h2>Ring</h2>");
    page.push_str(&ring_svg(&ring(view, state)));
}

fn ring(view: &View, state: &ClusterState) -> RingPicture {
    let members = state.members.iter().map(|member| PictureMember {
        id: member.id,
        name: member.name.to_string(),
        zone: member.zone.to_string(),
        is_down: seen(view, member.id).is_some_and(|seen| seen.liveness != Liveness::Alive),
    });
    RingPicture {
        title: format!("{}, epoch {}", state.settings.name, state.epoch),
        spots: state.ring.clone(),
        members: members.collect(),
        moving: moving(state),
        ..RingPicture::default()
    }
}

fn moving(state: &ClusterState) -> Vec<PictureMove> {
    let arrivals = Placement::of(state).arrivals().into_iter();
    let one = |(partition, to): (Partition, BTreeSet<NodeId>)| PictureMove {
        partition: partition.0.into(),
        to: to.into_iter().collect(),
    };
    arrivals.map(one).collect()
}

/// What this node sees of another; nothing of itself.
fn seen(view: &View, id: NodeId) -> Option<&MemberView> {
    view.members.iter().find(|seen| seen.id == id)
}

fn tables(page: &mut String, state: &ClusterState) {
    page.push_str("<h2>Tables</h2><table><tr><th>table</th><th>kind</th><th class=\"n\">N</th>");
    page.push_str("<th class=\"n\">R</th><th class=\"n\">W</th><th class=\"n\">floors</th>");
    page.push_str("<th>sloppy</th></tr>");
    for table in &state.tables {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}/{}</td><td>{}</td></tr>",
            escape(table.name.as_str()),
            table.kind,
            table.n,
            table.r,
            table.w,
            table.r_min,
            table.w_min,
            table.sloppy,
        );
    }
    page.push_str("</table>");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped() {
        assert_eq!(escape("<b>&\"x\""), "&lt;b&gt;&amp;&quot;x&quot;");
    }

    #[test]
    fn a_node_without_a_view_is_starting() {
        assert!(render(None, &[]).contains("starting"));
    }
}

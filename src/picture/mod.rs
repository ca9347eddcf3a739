//! Pictures as SVG text: pure functions from plain data, used by the command line and the status
//! page. Decides how things look; knows no cluster, no network and no file. Every shape that means
//! something carries a `<title>`, which browsers show as a tooltip and screen readers speak.

mod density;
mod heat;
mod nines;
mod plot;
mod ring;
mod svg;

pub use density::{Column, DensityPicture, density_svg};
pub use heat::{Heat, HeatPicture, HeatRow, heat_svg};
pub use nines::{NinesLine, NinesPicture, nines_svg};
pub use plot::{Line, Plot, plot_svg};
pub use ring::{KeyMarker, PictureLoss, PictureMember, PictureMove, RingPicture, ring_svg};

#[cfg(test)]
mod ring_tests;

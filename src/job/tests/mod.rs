//! The rules of the heart, told as small scenes in a simulated world (`sim`), and held against random lives
//! (`model_check`), which a `world` plays under its `laws`.

mod changes;
mod diagram;
mod extension;
mod firing;
mod guard;
mod instances;
mod laws;
mod life;
mod limit;
mod lock;
mod meeting_aimed;
mod model_check;
mod proof;
mod restart;
mod sim;
mod told;
mod warnings;
mod world;

//! What a history must never show: one law a file, named by what must hold.
//!
//! | law | what must hold |
//! |---|---|
//! | `called_in_time` | a server that answers about a meeting within T gets its end call within k·T |
//! | `seen_first` | no call at a meeting without a look of its own, within its time, that saw the instance |
//! | `claimed_first` | a call leaves after its claim is on the disk, unless the disk is at fault |
//! | `next_class` | no instance born after the pin moment is ended, unless it opened after the last look |
//! | `truly_gone` | what is called over is over, and was proven to be |
//! | `left_alone` | what goes on running is named, and is not ours |
//! | `told` | what the people inside are told, and when |
//! | `standing` | every occurrence of a recurring end once |
//! | `rules` | what a rule ends is meant by it |

pub mod called_in_time;
mod claimed_first;
mod left_alone;
mod next_class;
pub mod rules;
mod seen_first;
pub mod standing;
pub mod told;
pub mod truly_gone;

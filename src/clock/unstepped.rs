//! The machine's wall clock as it is; see `stepped`.

use std::io;

pub(super) const fn offset_ms() -> i64 {
    0
}

#[derive(Debug)]
pub(super) struct Steps;

impl Steps {
    pub const fn new() -> io::Result<Steps> {
        Ok(Steps)
    }

    pub async fn step(&self) -> io::Result<()> {
        std::future::pending().await
    }
}
